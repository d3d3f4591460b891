// The frame of the page: focus and layout in the URL, notes, a server that goes and comes back.

import assert from "node:assert/strict";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { built, end, launch, LONG_MS, open, serve } from "./session.mjs";

let recording;
let server;

before(async () => {
  await launch();
  recording = built("heap_list_O0");
  server = await serve(recording.trace);
});
after(end);

test("the page opens at a place, with who called whom", async () => {
  const user = await open(`${server.link}#m=140000`, { welcome: true });
  assert.match(await user.text("stack"), /main/);
  await user.page.getByText("Got it").click();
  assert.equal(await user.page.getByText("Got it").count(), 0);
  const title = await user.page.title();
  assert.match(title, /heap_list_O0/);
  await user.close();
});

test("moves are in the URL: Back returns, another page sees the same", async () => {
  const user = await open(server.link);
  const first = user.page.url();
  await user.page.locator(".timeline").focus();
  await user.press("Home");
  assert.match(user.page.url(), /#m=0&/);
  await user.press("PageDown");
  const second = user.page.url();
  await user.tab("Registers");
  assert.match(user.page.url(), /l=.*\*registers/);
  const copied = user.page.url();
  await user.page.goBack();
  await user.settled();
  assert.match(user.page.url(), /#m=0&/);
  await user.page.goBack();
  await user.settled();
  assert.equal(user.page.url().split("&l=")[0], first.split("&l=")[0]);
  const other = await open(copied);
  assert.equal(other.page.url().split("&l=")[0], second.split("&l=")[0]);
  assert.equal(await other.view("registers").count(), 1);
  const shown = other.view("registers").locator(".register", { hasText: "rip" });
  assert.match(await shown.first().innerText(), /0x/);
  await other.close();
  await user.close();
});

test("what a URL says wrong is named and left out", async () => {
  const user = await open(`${server.link}#m=12&t=none&l=r(&d=%zz`);
  const bar = user.page.locator(".bar-warn");
  assert.match(await bar.first().innerText(), /left out: task none, data, layout/);
  assert.match(user.page.url(), /#m=12/);
  await user.close();
});

test("all keys are listed, and none is typed into text", async () => {
  const user = await open(server.link);
  await user.press("?");
  const help = user.page.getByRole("dialog", { name: "All keys" });
  assert.match(await help.innerText(), /Next line/);
  await user.shot("help");
  await user.press("Escape");
  assert.equal(await help.count(), 0);
  await user.press("/");
  await user.page.keyboard.type("regis?n");
  const input = user.page.getByRole("combobox", { name: "Search or command" });
  assert.equal(await input.inputValue(), "regis?n");
  await user.press("Backspace", "Backspace");
  await user.page.locator(".found", { hasText: "Registers" }).first().waitFor();
  await user.press("Enter");
  assert.equal(await user.view("registers").count(), 1);
  await user.press("V");
  await user.shot("views");
  await user.page.getByRole("dialog", { name: "All views" }).getByText("Memory", { exact: true }).click();
  await user.settled();
  assert.equal(await user.view("memory").count(), 1);
  await user.close();
});

test("panes are sized, maximised, moved, by hand and by keys", async () => {
  const user = await open(server.link);
  const before = await user.view("stack").boundingBox();
  const splitter = user.page.getByRole("separator").first();
  await splitter.focus();
  await user.press("ArrowDown", "ArrowDown");
  const url = user.page.url();
  assert.match(url, /&l=/);
  await user.page.getByRole("tab", { name: "Stack", exact: true }).dblclick();
  await user.settled();
  const full = await user.view("stack").boundingBox();
  assert.ok(full.width > before.width * 2);
  await user.press("Escape");
  const tab = user.page.getByRole("tab", { name: "Threads", exact: true });
  await tab.dragTo(user.view("source").locator(".pane-body"));
  await user.settled();
  assert.equal(await user.view("threads").count(), 1);
  assert.match(await user.text("threads"), /heap_list_O0/);
  await user.close();
});

test("notes are kept, shared, and text whatever they say", async () => {
  const storage = mkdtempSync(join(tmpdir(), "pernosco-notes-"));
  let kept = await serve(recording.trace, "--storage", storage);
  const user = await open(`${kept.link}#m=140000`);
  const other = await open(kept.link);
  await user.press("b");
  const text = user.page.getByRole("textbox", { name: "Text of the note" });
  await text.fill("the end <script>alert(1)</script> <b>bold</b> **here** `x` [end](#m=146000)");
  await text.press("Enter");
  await user.settled();
  await other.tab("Notes");
  assert.match(await other.text("notes"), /the end <script>alert\(1\)<\/script> <b>bold<\/b> here x end/);
  // A little Markdown is more than text; HTML never is.
  const written = other.view("notes").locator(".note-text");
  assert.deepEqual(await written.locator("b, code, script").allInnerTexts(), ["here", "x"]);
  await other.shot("notes-markdown");
  await other.click(written.getByRole("link", { name: "end" }));
  assert.match(other.page.url(), /#m=146000/);
  await user.view("notes").hover();
  await user.page.getByTitle("Mark it pink").click();
  await user.settled();
  await other.idle();
  await other.page.locator('.note[data-colour="pink"]').waitFor();
  // The server goes, and comes back at the same place.
  assert.equal(await kept.stop(), 0);
  await user.page.getByText("Server gone, retrying").waitFor();
  await user.shot("server-gone");
  kept = await serve(recording.trace, "--storage", storage);
  await user.page.getByText("Server gone, retrying").waitFor({ state: "detached", timeout: LONG_MS });
  await user.idle();
  assert.match(await user.text("notes"), /the end <script>/);
  assert.match(await user.text("stack"), /main/);
  await user.view("notes").hover();
  await user.page.getByTitle("Remove this note").click();
  await user.settled();
  assert.match(await user.text("notes"), /No notes yet/);
  await other.close();
  await user.close();
});

test("a narrow page has one column", async () => {
  const user = await open(`${server.link}#m=140000`, { width: 720, height: 700 });
  assert.equal(await user.page.locator(".pane").count(), 1);
  await user.tab("Threads");
  assert.match(await user.text("threads"), /heap_list_O0/);
  await user.shot("narrow");
  const url = user.page.url();
  await user.page.setViewportSize({ width: 1440, height: 900 });
  await user.settled();
  assert.ok((await user.page.locator(".pane").count()) > 3);
  assert.equal(user.page.url(), url);
  await user.close();
});

for (const theme of ["light", "dark"]) {
  for (const [width, height] of [
    [1440, 900],
    [1920, 1080],
  ]) {
    test(`nothing is cut off at ${width}x${height}, ${theme}`, async () => {
      const user = await open(server.link, { theme, width, height });
      await user.shot(`open-${theme}-${width}`);
      const wide = await user.page.evaluate(() => {
        const root = document.documentElement;
        return root.scrollWidth > root.clientWidth || root.scrollHeight > root.clientHeight;
      });
      assert.equal(wide, false);
      assert.equal(await user.page.locator("html").getAttribute("data-theme"), theme);
      for (const tab of await user.page.getByRole("tab").all()) {
        assert.equal(await tab.evaluate((it) => it.scrollWidth > it.clientWidth + 1), false, await tab.innerText());
      }
      await user.close();
    });
  }
}
