// Strangers: interests, a match, text both ways, next, end; and pictures both ways.

import { fit, line, person, say, shot, until } from "./harness.mjs";

async function look(page, interests, pool = "Text") {
  await page.goto("/strangers");
  await page.getByText(pool, { exact: true }).click();
  await page.getByLabel("Interests").fill(interests);
  await page.getByRole("button", { name: "Find somebody" }).click();
}

export default [
  [
    "strangers with an interest in common meet, talk, go on and end",
    async ({ browser, url }) => {
      const ann = await person(browser, url);
      await ann.goto("/strangers");
      await ann.getByRole("heading", { name: "Meet a stranger" }).waitFor();
      await shot(ann, "strangers");
      await fit(ann, "strangers");
      await look(ann, "Jazz, climbing");
      await ann.getByText("climbing").waitFor();
      await shot(ann, "strangers-waiting");
      await fit(ann, "strangers, waiting");
      const ben = await person(browser, url);
      await look(ben, "climbing");
      await ann.getByText("You both like climbing").waitFor();
      await say(ann, "hello you");
      await line(ben, "hello you").waitFor();
      await say(ben, "hi, where do you climb?");
      await line(ann, "where do you climb").waitFor();
      await line(ben, "where do you climb").locator(".tick.read").waitFor();
      await shot(ann, "strangers-chat");
      await fit(ann, "strangers, talking");
      const cid = await person(browser, url);
      await look(cid, "jazz");
      await cid.getByText("jazz").waitFor();
      await ann.getByRole("button", { name: "Next" }).click();
      await ben.getByText("went on to somebody else").waitFor();
      await fit(ben, "strangers, over");
      await ann.getByText("You both like jazz").waitFor();
      await say(cid, "take five");
      await line(ann, "take five").waitFor();
      await ann.getByRole("button", { name: "End", exact: true }).click();
      await cid.getByText("The stranger ended the chat.").waitFor();
      return [ann, ben, cid];
    },
  ],
  [
    "strangers see each other by video",
    async ({ browser, url }) => {
      const people = [];
      for (const name of ["one", "two"]) {
        const page = await person(browser, url, { permissions: ["camera", "microphone"], viewport: { width: 1000, height: 700 } });
        await look(page, `films-${name}, films`, "Video");
        people.push(page);
      }
      for (const page of people) {
        await page.getByText("You both like films").waitFor();
        // Pictures move: time goes on in what comes from the other.
        const time = () => page.locator("video.remote").evaluate((video) => (video.videoWidth > 0 ? video.currentTime : 0));
        const before = await until("a picture of the other", time);
        await until("the picture moves", async () => (await time()) > before);
      }
      await say(people[0], "I can see you");
      await line(people[1], "I can see you").waitFor();
      await shot(people[0], "strangers-video");
      await fit(people[0], "strangers, video");
      await people[0].getByRole("button", { name: "End", exact: true }).click();
      await people[1].getByText("The stranger ended the chat.").waitFor();
      return people;
    },
  ],
];
