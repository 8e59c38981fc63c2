package gha

// Version is the release that this source is, or will be: release.yml refuses a
// tag that says otherwise. It stands in every report, checkpoint and --help. No
// commit can stand beside it: a released binary is built from the commit before
// the one that lists its checksum, and must come out the same from both.
const Version = "0.1.0"
