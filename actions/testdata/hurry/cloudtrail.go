package cloudtrail

import "time"

const (
	attempts     = 6
	longestPause = 5 * time.Millisecond
	attemptTime  = 800 * time.Millisecond
	pace         = time.Millisecond
)
