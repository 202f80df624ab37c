package main

import (
	"io"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress draws a bar for each transfer under way, if somebody looks, and lets
// lines be written above them. Nothing runs while there is no bar.
type progress struct {
	w     io.Writer
	shown bool

	mu   sync.Mutex
	bars *mpb.Progress // nil while there is none
	n    int           // bars
}

func newProgress(w io.Writer, shown bool) *progress { return &progress{w: w, shown: shown} }

// Write writes whole lines above the bars.
func (p *progress) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		return p.w.Write(line)
	}
	return p.bars.Write(line)
}

// bar is one transfer. A nil bar is one that nobody sees.
type bar struct {
	p     *progress
	bar   *mpb.Bar
	total int64
	once  sync.Once
}

// bar begins a transfer of total bytes; negative: unknown.
func (p *progress) bar(name string, total int64) *bar {
	if !p.shown {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		p.bars = mpb.New(mpb.WithOutput(p.w))
	}
	p.n++
	before := mpb.PrependDecorators(decor.Name(shorten(printable(name), 30), decor.WC{C: decor.DindentRight | decor.DextraSpace}))
	rate := decor.AverageSpeed(decor.SizeB1024(0), "% .1f")
	if total < 0 {
		after := mpb.AppendDecorators(decor.CurrentKibiByte("% .1f"), decor.Name("  "), rate)
		return &bar{p: p, bar: p.bars.AddSpinner(0, before, after)}
	}
	after := mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), decor.Name("  "), rate, decor.Name("  ETA "), decor.AverageETA(decor.ET_STYLE_GO))
	// A bar that begins without a total does not end by reaching it: a transfer
	// that is repeated falls back.
	b := p.bars.AddBar(0, before, after)
	b.SetTotal(total, false)
	return &bar{p: p, bar: b, total: total}
}

// set says how many bytes were transferred so far.
func (b *bar) set(done int64) {
	if b != nil {
		b.bar.SetCurrent(done)
	}
}

// grow makes the total no less than total: some transfers find more to do.
func (b *bar) grow(total int64) {
	if b != nil && total > b.total {
		b.total = total
		b.bar.SetTotal(total, false)
	}
}

// end takes the bar away. It may be called again.
func (b *bar) end() {
	if b == nil {
		return
	}
	b.once.Do(func() {
		b.p.mu.Lock()
		defer b.p.mu.Unlock()
		b.bar.Abort(true)
		b.bar.Wait()
		if b.p.n--; b.p.n == 0 {
			b.p.bars.Wait()
			b.p.bars = nil
		}
	})
}
