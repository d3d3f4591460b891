// Where sessions begin: at what went wrong, or was printed.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve } from "./session.mjs";

before(launch);
after(end);

test("a bad exit: the page opens at the end of main, and output leads to who printed it", async () => {
  const server = await serve(built("heap_list_O0").trace);
  const user = await open(server.link);
  assert.equal(await user.here(), "main:80");
  await user.tab("Alerts");
  assert.match(await user.text("alerts"), /exit status 3[^]*main:80/);
  await user.shot("alerts-exit");
  await user.tab("Output");
  await user.clickOutput("holiday", "7", 0);
  assert.equal(await user.here(), "main:72");
  await user.unfold("e");
  assert.equal(await user.local("id"), "5");
  assert.equal(await user.local("balance"), "768");
  await user.shot("alerts-printed");
  // The same by keys alone, from the first page on.
  const keys = await open(server.link);
  await keys.press("F6");
  for (let n = 0; n < 8 && !(await keys.page.evaluate(() => document.activeElement?.closest("[data-view=output]"))); n++) {
    await keys.press("F6");
  }
  await keys.press("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "End", "ArrowLeft", "ArrowLeft");
  assert.equal(await keys.page.locator(".output-cursor").innerText(), "7");
  await keys.press("Enter");
  assert.equal(await keys.here(), "main:72");
  await keys.close();
  await user.close();
});

test("a crash: the page opens there, and says what was touched", async () => {
  const server = await serve(built("crash").trace);
  const user = await open(server.link);
  assert.equal(await user.here(), "walk:26");
  assert.match(await user.page.title(), /walk:26/);
  await user.tab("Alerts");
  const alerts = await user.text("alerts");
  assert.match(alerts, /SIGSEGV in walk:26: read of 0x4141414141414141, not an address/);
  await user.tab("Watches");
  const input = user.page.getByLabel("Expression to watch");
  await input.fill("visited");
  await input.press("Enter");
  await user.settled();
  assert.match(await user.text("watches"), /visited[^]*6/);
  assert.match(await user.text("stack"), /walk[^]*main/);
  await user.shot("alerts-crash");
  await user.close();
});

test("handled signals are listed and are not where a session begins", async () => {
  const server = await serve(built("signals").trace);
  const user = await open(server.link);
  assert.match(await user.here(), /^main:/);
  await user.tab("Alerts");
  const rows = user.view("alerts").locator(".alert");
  assert.equal(await rows.count(), 3);
  assert.equal(await user.view("alerts").locator(".alert.handled").count(), 3);
  await user.click(rows.nth(1).locator(".alert-text"));
  assert.equal(await user.here(), "main:74");
  assert.equal(await user.local("i"), "1");
  await user.shot("alerts-handled");
  await user.close();
});
