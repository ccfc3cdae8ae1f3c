// The operator's page: figures that move, and somebody logged out.

import { fit, person, shot } from "./harness.mjs";

export default [
  [
    "the operator sees how the server does, and logs somebody out",
    async ({ browser, url }) => {
      const operator = await person(browser, url, { viewport: { width: 1100, height: 900 } });
      const mallory = await person(browser, url);
      await mallory.goto("/chats");
      await mallory.getByLabel("Name").fill("mallory");
      await mallory.getByRole("button", { name: "Log in" }).click();
      await mallory.getByRole("heading", { name: "Chats" }).waitFor();
      await operator.goto("/admin");
      await operator.getByRole("region", { name: "Connections" }).locator(".now", { hasText: /[1-9]/ }).waitFor();
      await operator.getByRole("region", { name: "Memory" }).locator("polyline").waitFor();
      await shot(operator, "admin");
      await fit(operator, "operator");
      await operator.getByText("Everything that is counted").click();
      await operator.getByLabel("Only names with").fill("connections_max");
      await operator.getByRole("row", { name: /^connections_max/ }).waitFor();
      await fit(operator, "operator, counters");
      await operator.getByLabel("Log somebody out of all devices").fill("mallory");
      await operator.keyboard.press("Enter");
      await operator.getByRole("dialog").getByRole("button", { name: "Log out" }).click();
      await operator.getByText("mallory is logged out.").waitFor();
      await mallory.getByRole("button", { name: "Log in" }).waitFor();
      return [operator, mallory];
    },
  ],
];
