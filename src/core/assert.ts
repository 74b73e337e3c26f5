/**
 * Assertions for programmer errors. They stay on in production: a broken invariant must stop the
 * run where it broke. Messages are constants, because building a string costs twenty times the
 * test itself on a hot path.
 */

/** A broken invariant inside Peerlane: never the user's fault, always a bug to report. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Throws {@link AssertionError} unless `condition` holds. `message` must be a constant string. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) fail(message);
}

// Kept out of line so that V8 inlines the test alone into its callers.
function fail(message: string): never {
  throw new AssertionError(`broken invariant: ${message}`);
}

/** Marks a branch that the types say cannot be reached. */
export function unreachable(value: never, message: string): never {
  throw new AssertionError(`broken invariant: ${message} (${String(value)})`);
}
