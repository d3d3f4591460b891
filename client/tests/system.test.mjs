// What the kernel was asked, what it interrupted, what was open: signals and processes.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve } from "./session.mjs";

before(launch);
after(end);

async function viewOf(user, title) {
  await user.press("V");
  await user.page.getByRole("dialog", { name: "All views" }).getByText(title, { exact: true }).click();
  await user.settled();
}

test("signals: what became of each, and the handler's stack", async () => {
  const server = await serve(built("signals").trace);
  const user = await open(server.link);
  await viewOf(user, "Signals");
  const signals = user.view("signals");
  const alarms = signals.locator(".table-row", { hasText: "SIGALRM" });
  assert.ok((await alarms.count()) >= 8);
  assert.match(await alarms.first().innerText(), /from the kernel[^]*handled by on_alarm[^]*main:5\d/);
  const second = signals.locator(".table-row", { hasText: "nothing is mapped at 0x8 " });
  await user.click(second);
  assert.equal(await user.here(), "main:74");
  assert.equal(await user.local("i"), "1");
  assert.equal(await second.getAttribute("aria-current"), "true");
  await user.shot("system-signals");
  // The handler ran behind it, on a stack that says so.
  await user.press("/");
  await user.page.keyboard.type("on_alarm");
  await user.page.locator(".found", { hasText: /function\s*on_alarm/ }).first().waitFor();
  await user.press("Enter");
  const executions = user.view("executions").locator(".table-row");
  assert.ok((await executions.count()) >= 8);
  await user.click(executions.first());
  assert.match(await user.here(), /^on_alarm:17/);
  assert.match(await user.text("stack"), /signal\s*on_alarm[^]*main\s[^]*signals\.c:5\d/);
  await user.shot("system-handler");
  await user.close();
});

test("descriptors: a pipe in two processes, and the calls about it", async () => {
  const server = await serve(built("fork_pipe").trace);
  const user = await open(server.link);
  await viewOf(user, "Descriptors");
  const descriptors = user.view("descriptors");
  const inherited = descriptors.locator(".table-row", { hasText: /pipe[^]*write[^]*fork[^]*13/ });
  assert.equal(await inherited.count(), 1);
  await user.shot("system-descriptors");
  const made = descriptors.locator(".table-row", { hasText: /pipe[^]*write[^]*pipe2/ }).first();
  await user.click(made.getByRole("button", { name: "4" }));
  const calls = user.view("calls");
  const rows = calls.locator(".table-row");
  assert.equal(await calls.getByLabel("Descriptor").inputValue(), "4");
  const write = rows.filter({ hasText: /write\s*4, "child sees 99[^]*13/ });
  assert.equal(await write.count(), 1);
  await user.shot("system-calls");
  await user.click(write);
  // In front of the call, in the frame of the program's own line.
  assert.equal(await user.here(), "main:30");
  assert.match(await user.page.locator(".stack-row.current").innerText(), /main[^]*:30/);
  const name = calls.getByLabel("Name");
  for (const [text, told] of [
    ["socket", /No such system call was made/],
    ["nosuchcall", /no system call is called `nosuchcall`/],
  ]) {
    await name.fill(text);
    await name.press("Enter");
    await user.settled();
    assert.match(await user.text("calls"), told);
  }
  await user.close();
});

test("a failed call says why", async () => {
  const server = await serve(built("heap_list_O0").trace);
  const user = await open(server.link);
  await user.tab("System calls");
  const name = user.view("calls").getByLabel("Name");
  await name.fill("access");
  await name.press("Enter");
  await user.settled();
  const failed = user.view("calls").locator(".table-row.row-failed");
  assert.match(await failed.first().innerText(), /-1 ENOENT/);
  await user.close();
});
