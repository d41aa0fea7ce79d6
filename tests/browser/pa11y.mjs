// Reads [{url, dark, width, actions}] from its input. Writes what pa11y says about each page after its
// actions, and what the page is then.

import pa11y from "pa11y";
import puppeteer from "puppeteer";

const asked = JSON.parse(await new Response(process.stdin).text());
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM,
  // As root, in containers, Chromium runs without its sandbox or not at all.
  args: ["--no-sandbox"],
});
const told = [];
for (const { url, dark, width, actions } of asked) {
  const page = await browser.newPage();
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
  const found = await pa11y(url, {
    browser,
    page,
    actions,
    runners: ["axe", "htmlcs"],
    standard: "WCAG2AA",
    viewport: { width, height: 844 },
  });
  told.push({ html: await page.content(), issues: found.issues });
  await page.close();
}
await browser.close();
console.log(JSON.stringify(told));
