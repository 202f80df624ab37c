package inbox

import "sync"

// room shares a disk's free space among the fetches under way.
type room struct {
	mu      sync.Mutex
	claimed int64 // bytes still to be written
}

// claim is a fetch's share.
type claim struct {
	room *room
	left int64
}

// claim reserves size bytes if that leaves keep bytes of free.
func (r *room) claim(size, free, keep int64) (*claim, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if size > free-r.claimed-keep {
		return nil, false
	}
	r.claimed += size
	return &claim{room: r, left: size}, true
}

// unbounded is a claim where nothing is checked.
func (r *room) unbounded() *claim { return &claim{room: r} }

// use gives back what has been written: the disk counts it from now on.
func (c *claim) use(n int64) {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	n = min(n, c.left)
	c.left -= n
	c.room.claimed -= n
}

func (c *claim) end() { c.use(c.left) }
