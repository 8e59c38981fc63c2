package rotation

import (
	"fmt"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// KeyLifetime is how long a signer signs before it should be replaced, and
// remindAhead how much earlier its successor should be published: ROLLOVER in
// the terms of RFC 7583, Tpub(N+1) ≤ Tact(N) + Lkey − Ipub, with room for people
// to act.
const (
	KeyLifetime = 365 * 24 * time.Hour
	remindAhead = 30 * 24 * time.Hour
)

// patience is how long a rotation may stand after its overlap before anybody is
// reminded: finalize runs every hour, and people sleep.
const patience = 24 * time.Hour

// alertness is how long everybody is reminded of a compromised key, and how long
// a verifier that does not answer leaves a run undecided. finalize goes on for as
// long as one trusts the key.
const alertness = 30 * 24 * time.Hour

// Reminders say what nobody has done in time, as far as the files tell: every
// run of every action shows them, so that nothing depends on one schedule that
// fires. They hold nothing up.
func Reminders(f record.Files, now time.Time) []string {
	var list []string
	for _, r := range f.Records {
		s := r.State()
		due := s.Since.Add(time.Duration(s.Policy.Overlap))
		if late := now.Sub(due); late > patience && f.Unsettled(r) {
			list = append(list, fmt.Sprintf("finalize of rotation %s is overdue by %d h: its overlap may have been over since %s; finalize says what signer %s still waits for", r.ID, int(late.Hours()), stamp(due), s.Leaving.ID))
		}
	}
	for _, s := range Compromised(f) {
		if now.Sub(s.RetiredAt) < alertness {
			list = append(list, fmt.Sprintf("signer %s was declared compromised at %s: a verifier that serves an older registry trusts its key without a bound; finalize with verifier-urls names those until all have caught up", s.ID, stamp(s.RetiredAt)))
		}
	}
	for _, s := range f.Registry.Signers {
		deployed, err := time.Parse(time.RFC3339, s.DeployedAt)
		if err != nil {
			continue // its entry does not tell
		}
		switch age, end := now.Sub(deployed), deployed.Add(KeyLifetime); {
		case age > KeyLifetime:
			list = append(list, fmt.Sprintf("signer %s is %d days old, more than the %d of a key's life: rotate it now (add-signer)", s.ID, days(age), days(KeyLifetime)))
		case age > KeyLifetime-remindAhead:
			list = append(list, fmt.Sprintf("signer %s is %d days old: publish its successor (add-signer, replaces: none for a standby) before %s", s.ID, days(age), end.UTC().Format(time.DateOnly)))
		}
	}
	return list
}

func days(d time.Duration) int { return int(d.Hours() / 24) }
