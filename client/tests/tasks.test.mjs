// Recordings with several tasks: who ran when, and output of all of them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve } from "./session.mjs";

before(launch);
after(end);

test("threads: lanes over the run, a click goes to who ran then", async () => {
  const server = await serve(built("threads_slices").trace);
  const user = await open(server.link);
  await user.tab("Threads");
  const rows = user.view("threads").locator(".table-row");
  assert.equal(await rows.count(), 5);
  const timeline = user.page.getByRole("slider", { name: "The run" });
  const box = await timeline.boundingBox();
  // Somewhere in the middle the adders run.
  await user.page.mouse.click(box.x + box.width * 0.55, box.y + box.height - 20);
  await user.settled();
  assert.match(await user.here(), /^adder:/);
  const running = await user.view("threads").locator(".table-row.current").innerText();
  assert.match(await timeline.getAttribute("aria-valuetext"), new RegExp(running.trim().split(/\s+/)[0]));
  const moment = /#m=(\d+)/.exec(user.page.url())[1];
  await user.shot("tasks-threads");
  // Another task at the same moment.
  await user.click(rows.nth(0));
  assert.match(user.page.url(), new RegExp(`#m=${moment}&t=1`));
  await user.page.goBack();
  await user.settled();
  assert.match(await user.here(), /^adder:/);
  await user.close();
});

test("processes: output of any of them leads to the line that printed it", async () => {
  const server = await serve(built("fork_pipe").trace);
  const user = await open(server.link);
  await user.clickOutput("child sees 99", "9", 0);
  assert.equal(await user.here(), "main:37");
  await user.tab("Threads");
  assert.ok((await user.view("threads").locator(".table-row").count()) > 1);
  await user.tab("Alerts");
  assert.match(await user.text("alerts"), /exit status 7[^]*handled/);
  await user.shot("tasks-processes");
  await user.close();
});

test("C++: calls of a function with values as people write them", async () => {
  const server = await serve(built("containers_O0").trace);
  const user = await open(server.link);
  await user.press("/");
  await user.page.keyboard.type("parse");
  await user.page.locator(".found", { hasText: /function\s*parse/ }).first().waitFor();
  await user.press("Enter");
  const text = await user.text("executions");
  assert.match(text, /6 executions/);
  await user.shot("tasks-parse");
  await user.close();
});
