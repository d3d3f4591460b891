// Stories from opening the page to the answer: a heap block used twice, a race, one call of many.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve, sourcesOf } from "./session.mjs";

before(launch);
after(end);

async function fill(user, view, label, text) {
  const field = user.view(view).getByLabel(label);
  await field.fill(text);
  await field.press("Enter");
  await user.settled();
}

async function executionsOf(user, name) {
  await user.press("/");
  await user.page.keyboard.type(name);
  await user.page.locator(".found", { hasText: new RegExp(`function\\s*(\\w+::)*${name}`) }).first().waitFor();
  await user.press("Enter");
}

test("use after free: who wrote the letter, and whose the block was", async () => {
  const server = await serve(built("use_after_free_n").trace);
  const user = await open(server.link);
  await user.clickOutput("after:", "D", 0);
  assert.equal(await user.here(), "main:45");
  await user.watch("message[40]");
  await user.click(user.view("watches").locator(".value", { hasText: /68 'D'/ }).first());
  await user.press("a");
  const accesses = user.view("accesses");
  const by = accesses.locator(".table-row", { hasText: /count_hit:30/ });
  const steps = await by.allInnerTexts();
  assert.equal(steps.length >= 3, true, steps.join("\n"));
  for (const [n, step] of [/'A'[^]*'B'/, /'B'[^]*'C'/, /'C'[^]*'D'/].entries()) {
    assert.match(steps.at(n - 3), step);
  }
  const life = await accesses.locator(".block-life").innerText();
  assert.match(life, /allocated[^]*open_session:15[^]*freed[^]*close_session:25[^]*allocated[^]*main:39/);
  await user.shot("stories-freed");
  await user.click(by.last());
  assert.equal(await user.here(), "count_hit:30");
  await user.close();
});

test("a race: payments that were lost, and a warning at each", async () => {
  const server = await serve(built("race").trace, "--sources", sourcesOf("race"));
  const user = await open(server.link);
  await user.watch("account.balance");
  await user.click(user.view("watches").locator(".value", { hasText: /^152470$/ }).first());
  await user.press("a");
  await fill(user, "accesses", "Condition", "new - old != 990 && new - old != 2970");
  const rows = user.view("accesses").locator(".table-row", { hasText: "pay_in:27" });
  assert.ok((await rows.count()) >= 1);
  await user.shot("stories-race");
  await user.click(rows.first());
  assert.equal(await user.here(), "pay_in:27");
  // Behind the store, the value is what it wrote.
  await user.press(".");
  await user.tab("Watches");
  await user.click(user.view("watches").locator(".value").first());
  await user.press("o");
  const warning = user.view("dataflow").locator(".hop-warning");
  assert.match(await warning.first().innerText(), /by others since it was read/);
  await user.shot("stories-race-warning");
  await user.close();
});

test("one call of many: by result, by condition, by what it did", async () => {
  const server = await serve(built("containers_O0").trace);
  const user = await open(server.link);
  await executionsOf(user, "parse");
  assert.match(await user.text("executions"), /6 executions/);
  await user.view("executions").getByLabel("Group by").selectOption("left");
  await user.settled();
  const groups = await user.view("executions").locator(".groups").innerText();
  assert.match(groups, /returned\s*4/);
  assert.match(groups, /exception\s*2/);
  await fill(user, "executions", "Condition", 's == "x7"');
  const rows = user.view("executions").locator(".table-row");
  assert.equal(await rows.count(), 1);
  await user.shot("stories-parse");
  await user.click(rows.first());
  assert.match(await user.here(), /^parse/);
  assert.match(await user.text("stack"), /parse[^]*add_all[^]*main[^]*:107/);
  const line = (number) => user.view("source").locator(`[data-line="${number}"]`).getAttribute("class");
  assert.match(await line(48), /strong/);
  assert.doesNotMatch(await line(49), /strong|weak/);
  await user.close();
});

test("Rust: the one division by nothing among all evaluations", async () => {
  const server = await serve(built("shapes_O0").trace);
  const user = await open(server.link);
  await executionsOf(user, "eval");
  assert.match(await user.text("executions"), /17 executions/);
  await fill(user, "executions", "Condition", "ret > 1e300");
  const rows = user.view("executions").locator(".table-row");
  assert.equal(await rows.count(), 1);
  assert.match(await rows.first().innerText(), /Binary \{op: '\/'[^]*inf/);
  await user.shot("stories-eval");
  await user.click(rows.first());
  await user.tab("Callees");
  const callees = user.view("callees").locator(".call-row");
  assert.equal(await callees.filter({ hasText: /eval[^]*7/ }).count(), 1);
  assert.ok((await callees.filter({ hasText: /eval[^]*0/ }).count()) >= 1);
  await user.shot("stories-callees");
  await user.tab("Alerts");
  assert.match(await user.text("alerts"), /panic[^]*137/);
  await user.close();
});
