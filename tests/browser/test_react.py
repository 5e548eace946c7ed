"""The hooks in a page with React itself."""

from flask import Flask, Response
from playwright.sync_api import expect

from bridge.flask import Bridge
from tests.browser.app import served
from tests.browser.node import package
from tests.browser.tabs import SECONDS, Tabs
from tests.servers import eventually

MS = 20_000

MODULES = {
    "react": ("react", "react.production.js", ()),
    "react-dom": ("react-dom", "react-dom.production.js", ("react",)),
    "react-dom-client": ("react-dom", "react-dom-client.production.js", ("react", "react-dom", "scheduler")),
    "scheduler": ("scheduler", "scheduler.production.js", ()),
}

PAGE = """<!doctype html><html lang="en"><title>React</title><div id="root"></div>
<script type="importmap">{"imports": {"react": "/modules/react.js"}}</script>
<script type="module" src="/page.js"></script>"""

SCRIPT = """
import React from "/modules/react.js";
import client from "/modules/react-dom-client.js";
import { connect } from "/bridge/bridge.js";
import { useTask, useTasks } from "/bridge/react.js";

const bridge = connect({ url: "/events" });
const { createElement: make, StrictMode, useState } = React;
window.renders = 0;

function Task({ id }) {
    window.renders += 1;
    const task = useTask(bridge, id);
    const words = task ? `${task.task} ${task.state} ${task.progress?.current ?? "-"}` : "nothing";
    return make("p", { id: "task" }, words);
}

function Tasks() {
    const words = useTasks(bridge).map(({ task, state }) => `${task} ${state}`);
    return make("p", { id: "tasks" }, words.join(", "));
}

function App() {
    const [id, setId] = useState("a");
    window.setId = setId;
    return make("main", null, make(Task, { id }), id && make(Tasks));
}

client.createRoot(document.querySelector("#root")).render(make(StrictMode, null, make(App)));
"""


def module(name: str) -> str:
    """Return a CommonJS module of React as one that browsers import."""
    folder, file, needs = MODULES[name]
    source = (package(folder) / "cjs" / file).read_text()
    imports = "".join(f'import m{place} from "/modules/{each}.js";\n' for place, each in enumerate(needs))
    needed = ", ".join(f'"{each}": m{place}' for place, each in enumerate(needs))
    names = "export const { useCallback, useSyncExternalStore } = module.exports;" if name == "react" else ""
    head = f"{imports}const require = (name) => ({{{needed}}})[name], module = {{ exports: {{}} }};\n"
    return f"{head}const exports = module.exports;\n{source}\nexport default module.exports;\n{names}"


def prepare(app: Flask, streams: Bridge) -> None:
    @app.get("/react")
    def react() -> Response:
        # The import map stands in the page. An application has a bundler instead.
        policy = "default-src 'none'; script-src 'self' 'unsafe-inline'; connect-src 'self'"
        return Response(PAGE, headers={"Content-Security-Policy": policy})

    @app.get("/page.js")
    def script() -> Response:
        return Response(SCRIPT, mimetype="text/javascript")

    @app.get("/modules/<name>.js")
    def modules(name: str) -> Response:
        return Response(module(name), mimetype="text/javascript")


def test_components_show_tasks_and_stop_watching(chromium_tabs: Tabs) -> None:
    """The hooks follow a task and the feed through one stream, another task when asked, and then none."""
    with served(prepare) as app:
        app.say("state", "a", state="STARTED")
        page = chromium_tabs.open(f"{app.address}/react")
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        expect(page.locator("#task")).to_have_text("a STARTED -", timeout=MS)
        expect(page.locator("#tasks")).to_have_text("a STARTED", timeout=MS)
        before = page.evaluate("() => window.renders")
        for number in range(1000):
            app.say("progress", "a", current=number)
        expect(page.locator("#task")).to_have_text("a STARTED 999", timeout=MS)
        assert page.evaluate("() => window.renders") - before < 1000
        app.say("state", "b", state="SUCCESS")
        expect(page.locator("#tasks")).to_have_text("a STARTED, b SUCCESS", timeout=MS)
        assert app.asked["/events"] == 1
        page.evaluate("() => window.setId('b')")
        expect(page.locator("#task")).to_have_text("b SUCCESS -", timeout=MS)
        page.evaluate("() => window.setId(null)")
        expect(page.locator("#task")).to_have_text("nothing", timeout=MS)
        eventually(lambda: app.viewers == 0, SECONDS, "the stream is still open")
        assert errors == []
