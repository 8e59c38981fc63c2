#!/usr/bin/env bash
# Writes the software bill of materials of built actions, in SPDX 2.3 JSON, to
# standard output: sbom.sh VERSION COMMIT SHA256SUMS BINARY...
# What a binary is made of is read from the binary itself (go version -m).
set -euo pipefail

version=$1 commit=$2 sums=$3
shift 3
for binary; do
  name=$(basename -- "$binary")
  go version -m -json "$binary" |
    jq --arg name "$name" --arg sum "$(awk -v name="$name" '$2 == name { print $1 }' "$sums")" '. + {name: $name, sum: $sum}'
done | jq -s --arg version "$version" --arg commit "$commit" '
  def id: "SPDXRef-" + gsub("[^A-Za-z0-9.-]"; "-");
  def part: {SPDXID: ("\(.Path)-\(.Version)" | id), name: .Path, versionInfo: .Version, downloadLocation: "NOASSERTION", filesAnalyzed: false,
    externalRefs: [{referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: "pkg:golang/\(.Path)@\(.Version)"}]};
  {spdxVersion: "SPDX-2.3", dataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", name: "audit-signer-rotation-\($version)",
   documentNamespace: "https://github.com/agent-manager/audit-signer-rotation/releases/\($version)/\($commit)",
   creationInfo: {created: (now | todate), creators: ["Tool: audit-signer-rotation tools/sbom.sh", "Tool: \(.[0].GoVersion)"]},
   packages: ([.[] | {SPDXID: (.name | id), name: .name, versionInfo: $version, downloadLocation: "git+https://github.com/agent-manager/audit-signer-rotation@\($commit)",
       filesAnalyzed: false, checksums: [{algorithm: "SHA256", checksumValue: .sum}]}]
     + ([.[].Deps[]] | unique_by(.Path, .Version) | map(part))
     + [{SPDXID: "SPDXRef-go", name: "go", versionInfo: .[0].GoVersion, downloadLocation: "https://go.dev/dl/", filesAnalyzed: false}]),
   relationships: ([.[] | {spdxElementId: "SPDXRef-DOCUMENT", relationshipType: "DESCRIBES", relatedSpdxElement: (.name | id)}]
     + [.[] | (.name | id) as $binary | {spdxElementId: "SPDXRef-go", relationshipType: "BUILD_TOOL_OF", relatedSpdxElement: $binary},
        (.Deps[] | {spdxElementId: $binary, relationshipType: "STATIC_LINK", relatedSpdxElement: ("\(.Path)-\(.Version)" | id)})])}'
