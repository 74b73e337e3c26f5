import { rdmaPair } from "../../testing/rdma-pair.ts";
import { verbsContract } from "../../testing/verbs-contract.ts";
import { Prng } from "../core/index.ts";

verbsContract("model RNIC on the fabric", () => rdmaPair());
verbsContract("small packets behind a strict IOMMU", () => rdmaPair({ iommu: "strict", mtu: 256 }));
verbsContract("a fabric and a wire that take time", () =>
  rdmaPair({ timed: true, wire: { latencyNs: 1000, gigabitsPerSecond: 100 } }),
);
verbsContract("a wire that loses", () =>
  rdmaPair({ wire: { lossProbability: 0.03, prng: new Prng(11) } }),
);
verbsContract("a slow wire that loses", () =>
  rdmaPair({
    mtu: 1024,
    wire: { lossProbability: 0.03, prng: new Prng(12), latencyNs: 2000, gigabitsPerSecond: 25 },
  }),
);
