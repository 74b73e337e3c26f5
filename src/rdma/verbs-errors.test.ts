import { rdmaPair } from "../../testing/rdma-pair.ts";
import { verbsErrorsContract } from "../../testing/verbs-errors-contract.ts";
import { Prng } from "../core/index.ts";

verbsErrorsContract("model RNIC on the fabric", () => rdmaPair());
verbsErrorsContract("behind a strict IOMMU", () => rdmaPair({ iommu: "strict" }));
verbsErrorsContract("a fabric and a wire that take time", () =>
  rdmaPair({ timed: true, wire: { latencyNs: 1000, gigabitsPerSecond: 100 } }),
);
verbsErrorsContract("a slow wire that loses", () =>
  rdmaPair({
    mtu: 1024,
    wire: { lossProbability: 0.02, prng: new Prng(5), latencyNs: 2000, gigabitsPerSecond: 25 },
  }),
);
