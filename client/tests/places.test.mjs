// Source, Stack, Locals, Callees and Executions over `heap_list_O0`, from a link into its middle.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve } from "./session.mjs";

/** In `printf`, called at line 72 of `main`. */
const PRINTING = "#m=140000&f=123055.0";

let server;

before(async () => {
  await launch();
  server = await serve(built("heap_list_O0").trace);
});
after(end);

test("a frame has its source line, marks, and variables that unfold", async () => {
  const user = await open(server.link + PRINTING);
  assert.equal(await user.here(), "main:72");
  const source = user.view("source");
  const line = source.locator('[data-line="72"]');
  assert.match(await line.innerText(), /printf\("%d %-20s %ld\\n"/);
  assert.match(await line.getAttribute("class"), /strong/);
  assert.equal(await line.getAttribute("aria-current"), "true");
  assert.equal((await line.locator(".source-count").innerText()).trim(), "x8");
  assert.match(await line.locator(".t-string").first().innerText(), /%d/);
  await user.unfold("e");
  assert.equal(await user.local("id"), "2");
  assert.equal(await user.local("balance"), "200");
  await user.shot("places-main");
  // The keyboard walks the stack: to the callee, and back to the caller.
  await user.press("Alt+ArrowDown");
  assert.match(await user.page.locator(".stack-row.current").innerText(), /printf/);
  await user.press("Alt+ArrowUp");
  assert.match(await user.page.locator(".stack-row.current").innerText(), /main/);
  await user.close();
});

test("a name in the source tells its value, and a watch follows", async () => {
  const user = await open(server.link + PRINTING);
  const name = user.view("source").locator('[data-line="72"] .t-name', { hasText: /^balance$/ });
  await name.first().hover();
  const hover = user.page.getByRole("tooltip");
  await hover.waitFor();
  assert.match(await hover.innerText(), /e->balance[^]*200/);
  await user.tab("Watches");
  const input = user.page.getByLabel("Expression to watch");
  await input.fill("e->next->balance + 1");
  await input.press("Enter");
  await input.fill("<b>nope</b>");
  await input.press("Enter");
  await user.settled();
  const watches = await user.text("watches");
  assert.match(watches, /e->next->balance \+ 1[^]*101/);
  assert.match(watches, /<b>nope<\/b>/);
  // Watches are in the link.
  const other = await open(user.page.url());
  assert.match(await other.text("watches"), /101/);
  await other.close();
  await user.close();
});

test("loop, printf style: the executions of a line, with prints and a condition", async () => {
  const user = await open(server.link + PRINTING);
  const source = user.view("source");
  await source.locator(".source-text").evaluate((element) => {
    element.scrollTop = 40 * 20;
  });
  await user.settled();
  await user.click(source.locator('[data-line="51"] .source-number'));
  const executions = user.view("executions");
  const print = executions.getByLabel("Print");
  await print.fill("i, text[i]");
  await print.press("Enter");
  await user.settled();
  assert.match(await user.text("executions"), /31 executions/);
  await user.shot("places-executions");
  const row = executions.locator(".table-row", { hasText: /20\s*0 '\\0'/ });
  await user.click(row.first());
  assert.equal(await user.here(), "set_note:51");
  assert.equal(await user.local("i"), "20");
  assert.equal(await user.local("n"), "20");
  const line = source.locator('[data-line="51"]');
  assert.match(await line.getAttribute("class"), /strong/);
  assert.equal((await line.locator(".source-count").innerText()).trim(), "x21");
  await executions.getByLabel("Where").selectOption("call");
  await user.settled();
  assert.match(await user.text("executions"), /21 executions/);
  const condition = executions.getByLabel("Condition");
  await condition.fill("i >= 16");
  await condition.press("Enter");
  await user.settled();
  assert.match(await user.text("executions"), /5 executions/);
  assert.equal(await executions.locator(".table-row").count(), 5);
  await condition.fill("i > 99");
  await condition.press("Enter");
  await user.settled();
  assert.match(await user.text("executions"), /did not run in this call with that condition/);
  await user.shot("places-none");
  await condition.fill("nope > 1");
  await condition.press("Enter");
  await user.settled();
  assert.match(await user.text("executions"), /nope/);
  await condition.fill("i == 3");
  await condition.press("Enter");
  await user.settled();
  await user.click(executions.locator(".table-row").first());
  assert.equal(await user.local("i"), "3");
  await user.close();
});

test("steps by keys alone, there and back", async () => {
  // In the loop of `set_note`.
  const user = await open(`${server.link}#m=128901`);
  assert.equal(await user.here(), "set_note:51");
  const moment = () => /#m=(\d+)/.exec(user.page.url())[1];
  await user.press("n");
  assert.equal(await user.here(), "set_note:50");
  await user.press("N");
  assert.equal(await user.here(), "set_note:51");
  const at = moment();
  await user.press(".");
  assert.equal(Number(moment()), Number(at) + 1);
  await user.press(",");
  assert.equal(moment(), at);
  await user.press("]");
  assert.equal(await user.here(), "set_note:51");
  assert.ok(Number(moment()) > Number(at));
  await user.press("[");
  assert.equal(await user.here(), "set_note:51");
  await user.press("F");
  assert.match(await user.here(), /^set_note:4/);
  // Nothing of it is lost: Back undoes step by step.
  for (let n = 0; n < 7; n++) {
    await user.page.goBack();
    await user.settled();
  }
  assert.equal(moment(), "128901");
  await user.close();
});

test("the search box finds functions, files, lines and moments", async () => {
  const user = await open(server.link + PRINTING);
  await user.press("/");
  await user.page.keyboard.type("set_no");
  const found = user.page.locator(".found");
  await found.filter({ hasText: /function\s*set_note/ }).first().waitFor();
  assert.match(await found.first().innerText(), /set_note[^]*3 x/);
  await user.shot("places-search");
  await user.press("Enter");
  const text = await user.text("executions");
  assert.match(text, /set_note[^]*3 executions/);
  assert.match(text, /text=[^]*"holiday savings 2024"/);
  await user.shot("places-function");
  await user.press("Control+s");
  await user.page.keyboard.type("heap_list.c:51");
  await found.filter({ hasText: /line\s*heap_list.c:51/ }).first().waitFor();
  await user.press("Enter");
  assert.equal(await user.view("source").locator('[data-line="51"]').isVisible(), true);
  await user.press("/");
  await user.page.keyboard.type("e121");
  await found.filter({ hasText: /moment/ }).first().waitFor();
  await user.press("Enter");
  assert.match(user.page.url(), /#m=145701/);
  await user.press("/");
  await user.page.keyboard.type("=1 + 2 * 3");
  await user.page.locator(".search-value", { hasText: "7" }).waitFor();
  await user.press("Escape");
  await user.close();
});

test("a text that is not here is explained", async () => {
  const user = await open(`${server.link}#m=140000`);
  const source = await user.text("source");
  assert.match(source, /is not here/);
  assert.match(source, /--sources/);
  await user.shot("places-no-text");
  await user.close();
});
