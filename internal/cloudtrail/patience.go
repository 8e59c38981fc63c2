package cloudtrail

import "time"

// What a Client waits for where its Options do not say. The fault tests of the
// actions replace this file by one in which time passes faster.
const (
	attempts     = 6
	longestPause = 10 * time.Second
	attemptTime  = 30 * time.Second
	pace         = 600 * time.Millisecond
)
