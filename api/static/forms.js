// The forms that start tasks.

import { size } from "./format.js";
import { started } from "./started.js";

function setUpForms() {
  for (const form of document.querySelectorAll("form[data-task]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit(form, body(form));
    });
  }
  setUpUpload(document.querySelector("form[data-task=import_csv]"));
  const delay = document.querySelector("#delay");
  const shown = document.querySelector("#delay-shown");
  delay.addEventListener("input", () => (shown.textContent = `${Math.round(delay.value * 1000)} ms`));
}

function body(form) {
  if (form.enctype === "multipart/form-data") return new FormData(form);
  const values = Object.fromEntries(new FormData(form));
  return JSON.stringify(Object.fromEntries(Object.entries(values).filter(([, value]) => value !== "")));
}

async function submit(form, sent) {
  const button = form.querySelector("button[type=submit]");
  complain(form, "");
  button.disabled = true;
  form.ariaBusy = "true";
  try {
    const headers = typeof sent === "string" ? { "Content-Type": "application/json" } : {};
    const response = await fetch(`/tasks/${form.dataset.task}`, { method: "POST", body: sent, headers });
    const answer = await response.json();
    if (response.ok) started(answer);
    else complain(form, reason(answer));
  } catch {
    complain(form, "The server cannot be reached. No task was started.");
  } finally {
    button.disabled = false;
    form.ariaBusy = "false";
  }
}

function reason({ detail, errors }) {
  if (!errors?.length) return detail;
  return errors.map(({ field, message }) => (field ? `${field}: ${message}` : message)).join("\n");
}

function complain(form, words) {
  const place = form.querySelector(".complaint");
  place.textContent = words;
  place.hidden = !words;
  for (const input of form.querySelectorAll("input, textarea")) input.ariaInvalid = words ? "true" : "false";
}

function setUpUpload(form) {
  const input = form.querySelector("input[type=file]");
  const drop = form.querySelector(".drop");
  const chosen = form.querySelector(".chosen");
  const limit = Number(form.dataset.limit);

  function choose() {
    const file = input.files[0];
    chosen.textContent = file ? `${file.name} · ${size(file.size)}` : chosen.dataset.empty;
    drop.classList.toggle("filled", Boolean(file));
    const tooLarge = file && file.size > limit;
    complain(form, tooLarge ? `The file is larger than ${size(limit)}.` : "");
    form.querySelector("button[type=submit]").disabled = Boolean(tooLarge);
  }

  input.addEventListener("change", choose);
  for (const type of ["dragenter", "dragover"]) drop.addEventListener(type, () => drop.classList.add("over"));
  for (const type of ["dragleave", "drop"]) drop.addEventListener(type, () => drop.classList.remove("over"));
  form.querySelector(".sample").addEventListener("click", async (event) => {
    const response = await fetch(event.currentTarget.dataset.href);
    const sample = new FormData();
    sample.append("file", new File([await response.blob()], "airports.csv", { type: "text/csv" }));
    submit(form, sample);
  });
}

setUpForms();
