// Sessions from opening the page to the answer, one for each kind of bug.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve, small } from "./session.mjs";

before(launch);
after(end);

/** Writes into a field of Executions or Accesses. */
async function fill(user, view, label, text) {
  const field = user.view(view).getByLabel(label);
  await field.fill(text);
  await field.press("Enter");
  await user.settled();
}

test("use after free: the stale writes, and the life of the block", async () => {
  const server = await serve(built("use_after_free_n").trace);
  const user = await open(server.link);
  await user.clickOutput("after:", "D", 0);
  assert.equal(await user.here(), "main:45");
  await user.watch("message[40]");
  await user.click(user.view("watches").locator(".value", { hasText: /68 'D'/ }).first());
  await user.press("a");
  const accesses = user.view("accesses");
  const stale = accesses.locator(".table-row", { hasText: "count_hit:30" });
  assert.equal(await stale.count(), 3 + 1);
  const texts = await stale.allInnerTexts();
  assert.ok(texts.some((it) => /65 'A'\s*66 'B'/.test(it)), texts.join("\n"));
  assert.ok(texts.some((it) => /67 'C'\s*68 'D'/.test(it)), texts.join("\n"));
  await user.shot("stories-freed");
  const life = await accesses.locator(".block-life").innerText();
  assert.match(life, /allocated[^]*open_session:15[^]*freed[^]*close_session:25[^]*allocated[^]*main:39/);
  await user.shot("stories-freed");
  await user.close();
});

test("a race: the write that lost another one's", async () => {
  const server = await serve(built("race", small).trace, "--sources", join(small, "race"));
  const user = await open(server.link);
  assert.match(await user.page.locator("header").first().innerText(), /exit status 1/);
  await user.watch("account.balance");
  await user.click(user.view("watches").locator(".value", { hasText: /^152470$/ }).first());
  await user.press("a");
  await fill(user, "accesses", "Condition", "new - old != 990 && new - old != 2970");
  const lost = user.view("accesses").locator(".table-row", { hasText: "pay_in:27" });
  assert.ok((await lost.count()) > 0);
  await user.click(lost.last());
  assert.equal(await user.here(), "pay_in:27");
  await user.shot("stories-race");
  // The value behind the write, asked about there.
  await user.press("n");
  await user.click(user.view("watches").locator(".value").first());
  await user.tab("Dataflow");
  const story = await user.text("dataflow");
  assert.match(story, /pay_in:27/);
  assert.match(story, /by others since it was read/);
  await user.shot("stories-race-story");
  await user.close();
});

test("one call of many: C++ values, results and conditions", async () => {
  const server = await serve(built("containers_O0").trace);
  const user = await open(server.link);
  await user.press("/");
  await user.page.keyboard.type("parse");
  await user.page.locator(".found", { hasText: /function\s*parse/ }).first().waitFor();
  await user.press("Enter");
  assert.match(await user.text("executions"), /6 executions/);
  await fill(user, "executions", "Condition", 's == "x7"');
  assert.match(await user.text("executions"), /1 execution\b/);
  await user.click(user.view("executions").locator(".table-row").first());
  assert.match(await user.text("stack"), /parse[^]*add_all[^]*main/);
  await user.shot("stories-call");
  await user.close();
});

test("Rust: the one call whose result is not finite", async () => {
  const server = await serve(built("shapes_O0").trace);
  const user = await open(server.link);
  await user.tab("Alerts");
  assert.match(await user.text("alerts"), /panic/i);
  await user.press("/");
  await user.page.keyboard.type("eval");
  await user.page.locator(".found", { hasText: /function\s*(\w+::)*eval/ }).first().waitFor();
  await user.press("Enter");
  assert.match(await user.text("executions"), /17 executions/);
  await fill(user, "executions", "Condition", "ret > 1e300");
  assert.match(await user.text("executions"), /1 execution\b/);
  await user.click(user.view("executions").locator(".table-row").first());
  await user.watch("*e");
  assert.match(await user.text("watches"), /Binary/);
  await user.shot("stories-rust");
  await user.close();
});

test("signals: a handler, and what it interrupted", async () => {
  const server = await serve(built("signals").trace);
  const user = await open(server.link);
  await user.press("/");
  await user.page.keyboard.type("on_alarm");
  await user.page.locator(".found", { hasText: /function\s*on_alarm/ }).first().waitFor();
  await user.press("Enter");
  const [, count] = /(\d+) executions/.exec(await user.text("executions"));
  assert.ok(Number(count) >= 8);
  await user.click(user.view("executions").locator(".table-row").nth(2));
  assert.match(await user.text("stack"), /on_alarm[^]*signal[^]*main/);
  await user.shot("stories-signal");
  await user.close();
});

test("system calls: with names, texts and results", async () => {
  const server = await serve(built("fork_pipe").trace);
  const user = await open(server.link);
  await user.tab("System calls");
  const calls = user.view("calls");
  const name = calls.getByLabel("Name");
  await name.fill("openat");
  await name.press("Enter");
  await user.settled();
  const failed = calls.locator(".table-row", { hasText: "/nonexistent/file" });
  assert.match(await failed.innerText(), /O_RDONLY[^]*ENOENT[^]*main:76/);
  await user.click(failed);
  assert.equal(await user.here(), "main:76");
  await user.shot("stories-calls");
  await user.close();
});
