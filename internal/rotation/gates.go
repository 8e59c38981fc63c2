package rotation

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
)

// row is one gate: what judges it, whether an input may switch it off, what a
// record that retires a signer must say of it, and what to do where it is not
// passed.
type row struct {
	id, name string
	mayBeOff bool
	wanted   record.GateState // Passed, unless set
	judge    func(f Facts, a Assessment) (record.GateState, string)
	advice   map[record.GateState]string
}

// The gates that are spoken of by name.
const (
	chainAfterMerge = "G3"
	trailQuiet      = "G5"
	personApproves  = "G8"
)

// gates are the conditions of a retirement, in order. A gate that is added here is
// asked for from then on; records that were merged before are held to the gates
// that they were judged by.
var gates = []row{
	{id: "G1", name: "the overlap has passed", judge: overlap, advice: map[record.GateState]string{
		record.Waiting:  "nothing to do before the time that it names; finalize looks again on its own.",
		record.Unproven: "set the clock right, of the database or of the runner.",
	}},
	{id: "G2", name: "the outgoing signer is quiet, the incoming one signs", judge: quiet, advice: map[record.GateState]string{
		record.Waiting: "deploy the incoming signer everywhere (run guard-deploy first), and find the writer that still uses the old one.",
	}},
	{id: chainAfterMerge, name: "the chain verifies after the merge", judge: verifies, advice: map[record.GateState]string{
		record.Against: "run verify-chain and look at the rows that it names.",
	}},
	{id: "G4", name: "consistent with the last checkpoint", mayBeOff: true, judge: anchored, advice: map[record.GateState]string{
		record.Unproven: "run verify-chain with this checkpoint-branch once, if it never ran; if it did, somebody has deleted the branch: restore it, since a lost checkpoint is no fresh start.",
		record.Against:  "history before the checkpoint was cut off or rewritten, or this is another table: look at the rules truncated and checkpoint-mismatch.",
	}},
	{id: trailQuiet, name: "KMS: the old key is quiet, the new one is seen", mayBeOff: true,
		judge: func(f Facts, _ Assessment) (record.GateState, string) { return f.Trail.judge(f.Now) },
		advice: map[record.GateState]string{
			record.Waiting:  "nothing to do; CloudTrail delivers late, finalize asks again on its own.",
			record.Against:  "find the system that still signs with the old key: the CloudTrail event that is named has its user and address. Deploy the current signer there.",
			record.Unproven: "see that both signers name their own KMS key, that the trail records KMS events and that the role may call cloudtrail:LookupEvents and kms:GetPublicKey; a reviewed cloudtrail: off does without.",
		}},
	{id: "G6", name: "verifiers serve the current registry", mayBeOff: true, judge: everywhere, advice: map[record.GateState]string{
		record.Waiting:  "refresh the verifiers that are named.",
		record.Unproven: "see that the verifiers that are named answer.",
	}},
	{id: "G7", name: "no other rotation is in flight", judge: alone, advice: map[record.GateState]string{
		record.Waiting: "finish the other rotation or roll it back.",
	}},
	{id: personApproves, name: "a person approves", wanted: record.Waiting,
		judge: func(Facts, Assessment) (record.GateState, string) {
			return record.Waiting, "by your merge; this tool never merges"
		}},
}

// What must hold before a KMS key is disabled, besides gate G5.
const (
	KeyIsArchived = "K1"
	KeyIsUnused   = "K2"
	ChainVerifies = "K3"
)

var keyGates = []row{
	{id: KeyIsArchived, name: "the KMS key is the archived one"},
	{id: KeyIsUnused, name: "no registered signer uses the KMS key"},
	{id: ChainVerifies, name: "the chain verifies"},
}

// KeyGate is a gate of disabling a key that has evidence against it.
func KeyGate(id, detail string) record.Gate {
	i := slices.IndexFunc(keyGates, func(r row) bool { return r.id == id })
	return record.Gate{ID: id, Name: keyGates[i].name, State: record.Against, Detail: detail}
}

// judgeAll evaluates every gate.
func judgeAll(f Facts, a Assessment) (list []record.Gate) {
	for _, r := range gates {
		g := record.Gate{ID: r.id, Name: r.name}
		g.State, g.Detail = r.judge(f, a)
		list = append(list, g)
	}
	return list
}

func verifies(f Facts, _ Assessment) (record.GateState, string) {
	if f.Report.Verdict != chain.Verified {
		return record.Against, fmt.Sprintf("the chain does not even verify with the files as they are: %d finding(s), see the report of verify-chain", f.Report.FindingsTotal)
	}
	return record.Waiting, "checked once every other gate is passed"
}

// waits reports whether somebody or some time is waited for. What waits for the
// other gates, or for the merge itself, does not count.
func waits(g record.Gate) bool {
	return g.State == record.Waiting && g.ID != chainAfterMerge && g.ID != personApproves
}

// Advise says what to do about the first gate that needs anything, the worst state
// first; "" if none does.
func Advise(list []record.Gate) string {
	for _, state := range []record.GateState{record.Against, record.Waiting, record.Unproven} {
		for _, g := range list {
			if g.State != state || state == record.Waiting && !waits(g) {
				continue
			}
			do := "Read the evidence below."
			if i := slices.IndexFunc(gates, func(r row) bool { return r.id == g.ID }); i >= 0 && gates[i].advice[state] != "" {
				do = gates[i].advice[state]
			}
			switch state {
			case record.Against:
				return fmt.Sprintf("Gate %s speaks against it: %s Nothing is archived until that is explained.", g.ID, do)
			case record.Unproven:
				return fmt.Sprintf("Gate %s is not proven: %s Until then this counts as could-not-tell, never as passed.", g.ID, do)
			}
			return fmt.Sprintf("Gate %s waits: %s", g.ID, do)
		}
	}
	return ""
}

// judged holds the gates of a retirement against the table. now says that they are
// judged today, so that every gate of the table must be among them; of a record
// that was merged long ago, the gates that it names count. It returns what is
// wrong, and which gates were switched off.
func judged(list []record.Gate, now bool) (wrong []string, off string) {
	states := map[string]record.GateState{}
	var switchedOff []string
	for _, g := range list {
		i := slices.IndexFunc(gates, func(r row) bool { return r.id == g.ID })
		if was, twice := states[g.ID]; twice {
			wrong = append(wrong, fmt.Sprintf("gate %s is there twice (%s and %s)", g.ID, was, g.State))
		}
		states[g.ID] = g.State
		switch {
		case i < 0 && now:
			wrong = append(wrong, fmt.Sprintf("gate %.20q is not known to this release", g.ID))
		case i < 0 && g.State != record.Passed:
			wrong = append(wrong, fmt.Sprintf("gate %.20q is %s", g.ID, g.State))
		case i < 0:
		case g.State == record.Off && gates[i].mayBeOff:
			switchedOff = append(switchedOff, g.ID+" "+gates[i].name+" ("+g.Detail+")")
		case now && g.Name != gates[i].name:
			wrong = append(wrong, fmt.Sprintf("gate %s is called %q, not %.80q", g.ID, gates[i].name, g.Name))
		case gates[i].wanted == "" && g.State != record.Passed, gates[i].wanted != "" && g.State != gates[i].wanted:
			wrong = append(wrong, fmt.Sprintf("gate %s (%s) is %s", g.ID, gates[i].name, g.State))
		}
	}
	for _, r := range gates {
		if _, is := states[r.id]; now && !is {
			wrong = append(wrong, fmt.Sprintf("gate %s was not judged", r.id))
		}
	}
	if len(list) == 0 {
		wrong = append(wrong, "no gate was judged")
	}
	return wrong, strings.Join(switchedOff, "; ")
}
