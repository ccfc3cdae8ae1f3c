// Says last how many tests there were, as all test programs of the repository do.

import type { Reporter, TestModule } from "vitest/node";

export default class Count implements Reporter {
  onTestRunEnd(modules: ReadonlyArray<TestModule>): void {
    let [passed, failed] = [0, 0];
    for (const one of modules) {
      for (const test of one.children.allTests()) {
        if (test.result().state === "passed") passed += 1;
        else failed += 1;
      }
      if (one.children.size === 0 || one.errors().length > 0) failed += 1;
    }
    console.log(`${passed} passed, ${failed} failed`);
  }
}
