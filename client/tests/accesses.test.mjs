// Who wrote a place: from a value to the write that was wrong.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { built, end, launch, open, serve } from "./session.mjs";

before(launch);
after(end);

test("a value's writes, and a click goes to the last one", async () => {
  const server = await serve(built("heap_list_O0").trace);
  const user = await open(server.link);
  await user.clickOutput("holiday", "7", 0);
  await user.unfold("e");
  await user.click(user.view("locals").locator(".value", { hasText: /^768$/ }).first());
  await user.press("a");
  const accesses = user.view("accesses");
  assert.match(await accesses.locator(".about").innerText(), /balance[^]*768/);
  const rows = accesses.locator(".table-row");
  const last = rows.filter({ hasText: /set_note:51\s*777\s*768/ });
  assert.equal(await last.count(), 1);
  assert.ok((await rows.filter({ hasText: /main:66\s*500\s*777/ }).count()) === 1);
  await user.shot("accesses");
  await user.click(last);
  assert.equal(await user.here(), "set_note:51");
  assert.equal(await user.local("i"), "20");
  assert.equal(await user.local("n"), "20");
  // The list is still about the value where it was picked.
  assert.match(await accesses.locator(".about").innerText(), /768[^]*at \d/);
  assert.match(await user.text("accesses"), /set_note:51/);
  await user.shot("accesses-there");
  await user.close();
});
