// Where the page begins.

import { render } from "preact";
import { App } from "./app";
import { connect } from "./protocol/connection";
import { acted } from "./protocol/use_answer";
import { listenToKeys } from "./state/commands";
import { applyTheme } from "./state/settings";
import { follow } from "./state/url";
import { isView } from "./views/registry";
import { listenToKeep } from "./views/notes";
import "./theme/tokens.css";
import "./theme/page.css";
import "./theme/parts.css";
import "./theme/views.css";

applyTheme();
follow(isView);
listenToKeys();
listenToKeep();
connect();
// Times are told from what the user did.
for (const kind of ["pointerup", "keydown"]) document.addEventListener(kind, acted, true);

const root = document.getElementById("root");
if (root) render(<App />, root);
