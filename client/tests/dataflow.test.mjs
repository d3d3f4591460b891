// Where values came from: stories from what is wrong to its cause.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve } from "./session.mjs";

before(launch);
after(end);

/** Asks about a value that Locals or Watches show. */
async function pick(user, view, text) {
  await user.click(user.view(view).locator(".value", { hasText: text }).first());
}

test("wrong output: bytes of different origin, and the loop that went too far", async () => {
  const server = await serve(built("heap_list_O0").trace);
  const user = await open(server.link);
  await user.clickOutput("holiday", "7", 0);
  await user.unfold("e");
  await pick(user, "locals", /^768$/);
  const story = user.view("dataflow");
  const text = await story.innerText();
  assert.match(text, /byte 0\s[^]*copied\s*set_note:51/);
  assert.match(text, /holiday savings 2024/);
  assert.match(text, /bytes 1–7\s[^]*stored\s*main:66[^]*stored 777[^]*literal 777/);
  await user.shot("dataflow");
  await user.click(story.getByRole("link", { name: "set_note:51" }).first());
  assert.equal(await user.here(), "set_note:51");
  assert.equal(await user.local("i"), "20");
  assert.equal(await user.local("n"), "20");
  await user.close();
});

test("a dangling pointer: from the fault to who wrote there", async () => {
  const server = await serve(built("crash").trace);
  const user = await open(server.link);
  assert.equal(await user.here(), "walk:26");
  await pick(user, "locals", /0x4141414141414141/);
  const story = user.view("dataflow");
  assert.match(await story.innerText(), /copied\s*walk:27[^]*stored\s*main:42/);
  await user.shot("dataflow-crash");
  await user.click(story.getByRole("link", { name: "main:42" }).first());
  assert.equal(await user.here(), "main:42");
  assert.equal(await user.local("i"), "15");
  assert.equal(await user.local("k"), "31");
  await user.close();
});

test("through copies: one row for all of them, and each when asked", async () => {
  const server = await serve(built("struct_copy_O0").trace);
  const user = await open(server.link);
  await user.clickOutput("10 sample-010", "1", 0);
  assert.match(await user.here(), /^main:59$/);
  await user.watch("store[i].serial");
  await pick(user, "watches", /^10$/);
  const story = user.view("dataflow");
  assert.match(await story.innerText(), /copied 7 times: memmove, qsort, memcpy/);
  assert.match(await story.innerText(), /make\(serial=10\)[^]*computed\s*main:44/);
  await user.shot("dataflow-folded");
  await user.click(story.getByRole("button", { name: /copied 7 times/ }));
  const lines = await story.innerText();
  for (const line of [52, 51, 31, 46]) {
    assert.match(lines, new RegExp(`:${line}\\b`));
  }
  await user.shot("dataflow-copies");
  await user.close();
});

test("across processes: through pipes and a program of others", async () => {
  const server = await serve(built("fork_pipe").trace);
  const user = await open(server.link);
  await user.clickOutput("child sees 99", "9", 0);
  assert.equal(await user.here(), "main:37");
  await user.watch("buf[11]");
  await pick(user, "watches", /57 '9'/);
  const story = user.view("dataflow");
  const text = await story.innerText();
  assert.match(text, /from the kernel\s*main:34[^]*from another process\s*main:30[^]*main:29/);
  await user.shot("dataflow-processes");
  await user.click(story.getByRole("link", { name: "main:30" }).first());
  assert.equal(await user.here(), "main:30");
  await user.close();
});
