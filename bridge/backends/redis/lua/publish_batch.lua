-- Publishes messages and changes that were not published before.
--
-- requires: batch
--
-- KEYS    of each topic and group, as `batch` describes
-- ARGV    records, as `batch` describes
-- Answers what `batch` describes.

return publish_all(publish_record)
