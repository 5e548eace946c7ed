// Sizes for people.

const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${one.format(bytes)} ${units[unit]}`;
}
