/**
 * A bare TCP echo: `echo-server PORT REQUEST_BYTES ANSWER_BYTES`. Everything that one piece of the
 * stream asks for goes back in one write, from memory that is never touched: the most that Node's
 * sockets can do.
 */

import { realNetwork } from "../../src/platform/index.ts";

const [port = 0, requestBytes = 1, answerBytes = 1] = process.argv.slice(2).map(Number);
const answer = new Uint8Array(Math.max(answerBytes * 64, 1));

await realNetwork.listen({ address: "127.0.0.1", port }, (stream) => {
  let pending = 0;
  stream.start({
    onData(bytes) {
      pending += bytes.length;
      const count = Math.floor(pending / requestBytes);
      pending -= count * requestBytes;
      if (count > 0) stream.write(answer.subarray(0, count * answerBytes));
    },
    // The client never has more than its depth under way.
    onDrain() {},
    onEnd() {},
  });
});
