package report

import (
	"fmt"
	"slices"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// picture is a stretch of the chain drawn to scale. Lengths along the chain
// are percentages, so that it fits any width without its text being distorted.
type picture struct {
	ID, Title, Description string
	From, To               string
	Says                   []string
	Bands                  []bar
	Lanes                  []lane
	Marks                  []mark
	Height                 int
	AxisY, AxisTextY       int

	span span
}

type bar struct {
	Class, X, W string
	Y, H        int
}

type lane struct {
	Label    string
	TextY, Y int
	Bars     []bar
}

type mark struct {
	Class, X, Label, Anchor string
	Y1, Y2, TextY, DX       int
}

// Bounds of what a picture shows; the table beside it has more.
const (
	maxLanes = 12
	maxMarks = 12
	maxTicks = 400
)

// pictures draws the whole chain and, where it would be too small to see, its
// latest handover once more.
func pictures(r *chain.Report, all []stretch, checkpoint int64) []picture {
	if r.Length == 0 || len(all) == 0 {
		return nil
	}
	changes := handovers(all)
	whole := draw(r, all, changes, checkpoint, span{1, r.Length})
	whole.ID, whole.Title = "whole", fmt.Sprintf("The whole chain, positions 1 to %s, to scale", number(r.Length))
	whole.Says = says(r, all, changes, checkpoint)
	list := []picture{whole}
	if len(changes) > 0 {
		last := changes[len(changes)-1]
		near := span{last.to.first, max(last.to.first, last.overlap.to, last.from.boundary)}
		pad := max(5, (near.to-near.from)/2)
		near = span{max(1, near.from-pad), min(r.Length, near.to+pad)}
		if (near.to-near.from+1)*6 < r.Length {
			p := draw(r, all, changes, checkpoint, near)
			p.ID, p.Title = "handover", fmt.Sprintf("The latest handover enlarged, positions %s to %s, to scale", number(near.from), number(near.to))
			list = append(list, p)
		}
	}
	for i := range list {
		list[i].Description = "The text below and the table say the same in words."
	}
	return list
}

// unread is the last position that a resumed verification has not read again.
func unread(r *chain.Report) int64 {
	if r.Resumed == nil {
		return 0
	}
	return positionOf(r.Resumed.From) - 1
}

// says puts a picture into words.
func says(r *chain.Report, all []stretch, changes []handover, checkpoint int64) []string {
	var list []string
	if n := unread(r); n > 0 {
		list = append(list, fmt.Sprintf("Positions 1 to %s were verified earlier and not read again; signers are those of the events after them.", number(n)))
	}
	for _, s := range all[:min(len(all), maxLanes)] {
		list = append(list, fmt.Sprintf("%s (%s) signed %s, at positions %s to %s.", visible(s.id), visible(s.state), count(s.events, "event"), number(s.first), number(s.last)))
	}
	if len(all) > maxLanes {
		list = append(list, fmt.Sprintf("%s more are not drawn.", count(int64(len(all)-maxLanes), "signer")))
	}
	for _, h := range changes[max(0, len(changes)-maxLanes):] {
		text := fmt.Sprintf("Cut-over from %s to %s at position %s", visible(h.from.id), visible(h.to.id), number(h.to.first))
		if h.overlaps() {
			text += fmt.Sprintf("; both signed up to position %s (overlap).", number(h.overlap.to))
		} else {
			text += "; a clean cut, the two never signed side by side."
		}
		list = append(list, text)
	}
	for _, s := range all {
		switch {
		case s.boundary == 0:
		case s.beyond > 0:
			list = append(list, fmt.Sprintf("✖ %s signed beyond its boundary, position %s: its last event stands at %s. Events beyond a boundary are not trusted.", visible(s.id), number(s.boundary), number(s.last)))
		default:
			list = append(list, fmt.Sprintf("%s may speak up to its boundary, position %s, and has signed nothing after it.", visible(s.id), number(s.boundary)))
		}
	}
	if checkpoint > 0 {
		list = append(list, fmt.Sprintf("The checkpoint holds everything up to position %s.", number(checkpoint)))
	}
	placed := 0
	for _, f := range r.Findings {
		if f.Position > 0 {
			placed++
		}
	}
	if placed > 0 {
		list = append(list, fmt.Sprintf("Lines in the lowest lane are the findings that have a position (%s).", number(int64(placed))))
	}
	return list
}

// draw lays out one picture: marks on top, a lane for each signer, findings
// below, then the axis.
func draw(r *chain.Report, all []stretch, changes []handover, checkpoint int64, part span) picture {
	p := picture{span: part, From: number(part.from), To: number(part.to)}
	if unread := unread(r); unread >= part.from {
		p.Bands = append(p.Bands, bar{Class: "unread", X: "0%", W: p.width(span{part.from, min(unread, part.to)})})
	}
	p.marks(all, changes, checkpoint)
	top := 6 + 18*len(p.Marks)
	y := top
	for _, s := range all[:min(len(all), maxLanes)] {
		l := lane{Label: fmt.Sprintf("%s · %s · %s", short(s.id, 30), short(s.state, 20), count(s.events, "event")), TextY: y + 13, Y: y + 19}
		if l.Bars = p.bars(s, l.Y); len(l.Bars) == 0 {
			continue
		}
		p.Lanes = append(p.Lanes, l)
		y += 42
	}
	ticks := p.ticks(r.Findings, y+19)
	if len(ticks) > 0 {
		p.Lanes = append(p.Lanes, lane{Label: "findings", TextY: y + 13, Y: y + 19})
		y += 38
	}
	bottom := y + 4
	for i := range p.Marks {
		p.Marks[i].Y2 = bottom
	}
	for i := range p.Bands {
		p.Bands[i].Y, p.Bands[i].H = top, bottom-top
	}
	p.Marks = append(p.Marks, ticks...)
	p.AxisY, p.AxisTextY, p.Height = bottom, bottom+17, bottom+24
	return p
}

// bars are a signer's stretch, and what of it lies beyond its boundary.
func (p *picture) bars(s stretch, y int) []bar {
	class := s.state
	if !slices.Contains([]string{"active", "retired", "compromised"}, class) {
		class = "unknown"
	}
	var list []bar
	add := func(class string, part span) {
		part = span{max(part.from, p.span.from), min(part.to, p.span.to)}
		if part.to >= part.from {
			list = append(list, bar{Class: class, X: p.at(part.from), W: p.width(part), Y: y})
		}
	}
	if s.beyond > 0 {
		add(class, span{s.first, s.boundary})
		add("beyond", span{max(s.first, s.beyond), s.last})
	} else {
		add(class, span{s.first, s.last})
	}
	return list
}

// marks are cut-overs, boundaries and the checkpoint, each on a line of its
// own so that their texts never meet.
func (p *picture) marks(all []stretch, changes []handover, checkpoint int64) {
	add := func(class string, position int64, edge bool, label string) {
		if position < p.span.from || position > p.span.to || len(p.Marks) == maxMarks {
			return
		}
		x := p.share(position)
		if edge {
			x = p.share(position + 1)
		}
		m := mark{Class: class, X: percent(min(x, 100)), Label: label, Anchor: "start", DX: 6}
		if x > 50 {
			m.Anchor, m.DX = "end", -6
		}
		row := 6 + 18*len(p.Marks)
		m.Y1, m.TextY = row, row+12
		p.Marks = append(p.Marks, m)
	}
	for _, h := range changes {
		add("cutover", h.to.first, false, "cut-over at "+number(h.to.first))
		if part := (span{max(h.overlap.from, p.span.from), min(h.overlap.to, p.span.to)}); part.to >= part.from {
			p.Bands = append(p.Bands, bar{Class: "overlap", X: p.at(part.from), W: p.width(part)})
		}
	}
	for _, s := range all {
		if s.boundary > 0 {
			add("boundary", s.boundary, true, "boundary at "+number(s.boundary))
		}
	}
	if checkpoint > 0 {
		add("checkpoint", checkpoint, true, "checkpoint at "+number(checkpoint))
	}
}

// ticks are the places of findings, as far as they can be told apart.
func (p *picture) ticks(fs []finding.Finding, y int) []mark {
	var list []mark
	seen := map[string]bool{}
	for _, f := range fs { // the worst come first
		if f.Position < p.span.from || f.Position > p.span.to {
			continue
		}
		cell := fmt.Sprintf("%.1f", p.share(f.Position))
		if seen[cell] || len(list) == maxTicks {
			continue
		}
		seen[cell] = true
		list = append(list, mark{Class: f.Severity.String(), X: percent(p.share(f.Position)), Y1: y, Y2: y + 14})
	}
	return list
}

// share is where along the picture, in percent, the event at a position starts.
func (p *picture) share(position int64) float64 {
	return 100 * float64(position-p.span.from) / float64(p.span.to-p.span.from+1)
}

func (p *picture) at(position int64) string { return percent(p.share(position)) }

// width is never nothing: one event of a million is still to be seen.
func (p *picture) width(part span) string {
	return percent(max(0.4, p.share(part.to+1)-p.share(part.from)))
}

func percent(share float64) string { return fmt.Sprintf("%.3f%%", share) }

// short cuts the middle out of a long id: ARNs differ at their ends.
func short(s string, most int) string {
	runes := []rune(visible(s))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:most/3]) + "…" + string(runes[len(runes)-(most-most/3-1):])
}
