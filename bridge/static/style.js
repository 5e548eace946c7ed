// The style of <task-progress>. A style sheet that is adopted needs no `style-src 'unsafe-inline'`. Colours are light or
// dark as the `color-scheme` of the page says.

export const style = `
:host {
  --_accent: var(--task-progress-accent, light-dark(#2459c9, #8ab0ff));
  --_track: var(--task-progress-track, light-dark(#e3e6ec, #34373f));
  --_quiet: var(--task-progress-quiet, light-dark(#565c68, #a9afbb));
  --_good: var(--task-progress-good, light-dark(#1d7a3e, #6fd195));
  --_bad: var(--task-progress-bad, light-dark(#b3261e, #ff9a92));
  display: block;
  font: inherit;
}
:host([hidden]) { display: none; }
[hidden] { display: none !important; }
[part~="head"] { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0.25em 0.75em; }
[part~="name"] { font-weight: 600; overflow-wrap: anywhere; min-inline-size: 0; }
[part~="state"] { color: var(--_accent); }
[part~="cancel"] { margin-inline-start: auto; font: inherit; }
[part~="bar"] { block-size: var(--task-progress-height, 0.5em); margin-block: 0.4em; border-radius: 1em; background: var(--_track); overflow: hidden; }
[part~="fill"] { block-size: 100%; inline-size: 100%; background: var(--_accent); transform: scaleX(0); transform-origin: left; }
:host(:dir(rtl)) [part~="fill"] { transform-origin: right; }
[part~="line"] { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1em; color: var(--_quiet); font-size: 0.9em; }
[part~="message"] { overflow-wrap: anywhere; min-inline-size: 0; }
[part~="figures"] { font-variant-numeric: tabular-nums; }
[part~="error"] { color: var(--_bad); overflow-wrap: anywhere; white-space: pre-wrap; margin-block: 0.3em; }
[part~="log"] { font-size: 0.9em; }
[part~="lines"] { max-block-size: 16em; overflow: auto; margin: 0.3em 0; padding: 0; list-style: none; }
[part~="lines"] li { white-space: pre-wrap; overflow-wrap: anywhere; }
.unseen { position: absolute; inline-size: 1px; block-size: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
:host([data-state="SUCCESS"]) { --_accent: var(--_good); }
:host([data-state="FAILURE"]), :host([data-state="REJECTED"]), :host([data-state="refused"]) { --_accent: var(--_bad); }
:host([data-state="REVOKED"]), :host([data-state="IGNORED"]), :host([data-state="PENDING"]) { --_accent: var(--_quiet); }
[data-running] [part~="fill"] { inline-size: 30%; transform: none; }
@media (prefers-reduced-motion: no-preference) {
  [part~="fill"] { transition: transform 0.15s linear; }
  [data-running] [part~="fill"] { animation: bridge-run 1.4s ease-in-out infinite alternate; transition: none; }
  :host(:dir(rtl)) [data-running] [part~="fill"] { animation-name: bridge-run-rtl; }
}
@keyframes bridge-run { from { transform: translateX(0) } to { transform: translateX(233%) } }
@keyframes bridge-run-rtl { from { transform: translateX(0) } to { transform: translateX(-233%) } }
@media (forced-colors: active) {
  [part~="bar"] { border: 1px solid CanvasText; }
  [part~="fill"] { background: Highlight; forced-color-adjust: none; }
}
`;
