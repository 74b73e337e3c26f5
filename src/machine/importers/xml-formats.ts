/** Which XML is whose: told from the root element, without a parser. */

/** True for the root element of hwloc's XML, in the first bytes of a file. */
export function isHwlocXml(head: string): boolean {
  return /<topology[\s>]/.test(head) && /<object\s+type="/.test(head);
}

/** True for the root element of an NCCL topology, in the first bytes of a file. */
export function isNcclXml(head: string): boolean {
  return /<system\s[^>]*version="/.test(head) && /<cpu\s/.test(head);
}
