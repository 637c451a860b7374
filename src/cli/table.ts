// Tables as kubectl and istioctl print them: columns padded to their widest cell, one space between at least.

export function renderTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  gap = 1,
): string {
  const lines = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  return lines
    .map((line) =>
      header
        .map((_, column) =>
          (line[column] ?? '').padEnd(column === header.length - 1 ? 0 : (widths[column] ?? 0) + gap),
        )
        .join('')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}
