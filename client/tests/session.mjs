// A session as a user has it: a recording, its database, the server, a browser.

import { spawn, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = dirname(fileURLToPath(import.meta.url));
const traces = process.env.PERNOSCO_TRACES ?? resolve(here, "../../../shared/traces");
const program = process.env.PERNOSCO;
/** Longer than anything takes on a busy machine. */
export const LONG_MS = 60_000;

if (!program) throw new Error("set PERNOSCO to the program, or run `cargo xtask check`");

const chromes = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where screenshots go, if they are wanted. */
const shots = process.env.PERNOSCO_SHOTS;

let browser;
const ends = [];

/** One browser for all tests of a file. */
export async function launch() {
  const executablePath = process.env.CHROMIUM ?? chromes.find(existsSync);
  if (!executablePath) throw new Error("no Chromium: install the package `chromium`");
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
}

export async function end() {
  await browser?.close();
  for (const it of ends.splice(0).reverse()) await it();
}

/** Recordings that are kept in the tree. */
export const small = resolve(here, "../../tests/recordings");

/** Copies a recording, builds its database. */
export function built(name, from = traces) {
  const directory = mkdtempSync(join(tmpdir(), "pernosco-browser-"));
  ends.push(() => rmSync(directory, { recursive: true, force: true }));
  const trace = join(directory, name);
  cpSync(join(from, name, "trace"), trace, { recursive: true });
  execFileSync(program, ["build", trace], { stdio: ["ignore", "ignore", "inherit"] });
  return { trace, directory };
}

/** Serves a database; the link is what the program prints. */
export async function serve(trace, ...options) {
  const sources = options.includes("--sources") ? [] : ["--sources", join(traces, "programs")];
  const child = spawn(program, ["serve", ...sources, ...options, trace], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = new Promise((resolve) => child.on("exit", (code) => resolve(code)));
  const stop = async () => {
    child.kill("SIGINT");
    return exited;
  };
  ends.push(stop);
  const lines = createInterface({ input: child.stdout });
  for await (const line of lines) {
    const found = /^Appserver launched at (http:\/\/127\.0\.0\.1:(\d+)\/index\.html)$/.exec(line);
    if (found) return { link: found[1], port: Number(found[2]), stop };
    break;
  }
  throw new Error("the server has not said where it is");
}

/** A page of its own, as of another user. */
export async function open(link, { theme = "light", width = 1440, height = 900, welcome = false } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme });
  if (!welcome) await context.addInitScript(() => localStorage.setItem("pernosco.welcome", "gone"));
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => {
    // Lost connections are reported by the browser itself.
    if (message.type() === "error" && !/WebSocket connection/.test(message.text())) {
      wrong.push(message.text());
    }
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(link).origin)) wrong.push(`asks ${request.url()}`);
  });
  await page.goto(link);
  const user = new User(page, wrong);
  await user.idle();
  return user;
}

/** What a user does and sees. Every step waits until nothing is on its way. */
export class User {
  constructor(page, wrong) {
    this.page = page;
    this.wrong = wrong;
  }

  async idle() {
    await this.page.waitForSelector("html[data-idle]", { state: "attached", timeout: LONG_MS });
  }

  /** Something was done: it may take a frame until what follows is asked. */
  async settled() {
    await this.page.evaluate(
      () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done()))),
    );
    await this.idle();
  }

  view(name) {
    return this.page.locator(`section.pane[data-view="${name}"]`);
  }

  /** Brings a view to the front by its tab. */
  async tab(title) {
    await this.page.getByRole("tab", { name: title, exact: true }).click();
    await this.settled();
  }

  async press(...keys) {
    for (const key of keys) {
      await this.page.keyboard.press(key);
      await this.settled();
    }
  }

  async click(locator, options) {
    await locator.click({ timeout: 10_000, ...options });
    await this.settled();
  }

  /** Clicks on a character of the output: the `nth` of `text` in the line that contains `line`. */
  async clickOutput(line, text, nth = 0) {
    const place = await this.view("output")
      .locator(".output-line", { hasText: line })
      .first()
      .evaluate(
        (element, [wanted, skip]) => {
          const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
          let left = skip;
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            for (let at = node.data.indexOf(wanted); at >= 0; at = node.data.indexOf(wanted, at + 1)) {
              if (left-- > 0) continue;
              const range = document.createRange();
              range.setStart(node, at);
              range.setEnd(node, at + 1);
              element.scrollIntoView({ block: "center" });
              const box = range.getBoundingClientRect();
              return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
            }
          }
          return null;
        },
        [text, nth],
      );
    if (!place) throw new Error(`no ${text} in the line ${line}`);
    await this.page.mouse.click(place.x, place.y);
    await this.settled();
  }

  /** `main:72`, from the last chip of the trail. */
  async here() {
    return (await this.page.locator(".chip-last").innerText()).trim();
  }

  async text(view) {
    return (await this.view(view).locator(".pane-body").innerText()).replaceAll("\u00a0", " ");
  }

  /** The value of a variable in Locals, as shown. */
  async local(name) {
    const row = this.view("locals").locator(".tree-row", {
      has: this.page.locator(".tree-name", { hasText: new RegExp(`^${name}$`) }),
    });
    return (await row.first().locator(".value").innerText()).trim();
  }

  /** Adds an expression to Watches, which come to the front. */
  async watch(expression) {
    await this.tab("Watches");
    const input = this.page.getByLabel("Expression to watch");
    await input.fill(expression);
    await input.press("Enter");
    await this.settled();
  }

  async unfold(name) {
    const row = this.view("locals").locator(".tree-row", {
      has: this.page.locator(".tree-name", { hasText: new RegExp(`^${name}$`) }),
    });
    await this.click(row.first().locator(".twisty"));
  }

  async shot(name) {
    if (shots) await this.page.screenshot({ path: join(shots, `${name}.png`) });
  }

  async close() {
    await this.page.context().close();
    if (this.wrong.length > 0) throw new Error(`the page reports:\n${this.wrong.join("\n")}`);
  }
}
