package outbound

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrNotAllowed: a URL or an address breaks the address rules. The error around
// it is a *NotAllowedError.
var ErrNotAllowed = errors.New("workspace URL not allowed")

// NotAllowedError is ErrNotAllowed with a reason that is fit to be shown to
// whoever registered the URL.
type NotAllowedError struct {
	Reason string
	Err    error // the cause, where there is one
}

func (e *NotAllowedError) Error() string { return e.Reason }

// Unwrap returns the cause.
func (e *NotAllowedError) Unwrap() error { return e.Err }

// Is makes every NotAllowedError match ErrNotAllowed.
func (e *NotAllowedError) Is(target error) bool { return target == ErrNotAllowed }

// Policy says on which networks workspaces may live (contract 8.3). The zero
// value is the strictest: public addresses only.
type Policy struct {
	// PrivateNetworks allows RFC 1918 and fd00::/8: the platform runs as SaaS,
	// with its workspaces on a private network.
	PrivateNetworks bool

	// Development allows private networks and loopback as well: everything runs
	// on one machine.
	Development bool
}

// never holds what no mode allows. Besides the contract's list (unspecified,
// link-local, multicast, documentation, shared 100.64/10, fc00::/8) it names
// the rest of the special-purpose registries of IANA, where no workspace can
// be, and the addresses under which cloud providers serve instance credentials
// outside link-local space.
var never = prefixes(
	"0.0.0.0/8",        // this network
	"100.64.0.0/10",    // shared address space, RFC 6598
	"169.254.0.0/16",   // link-local, where clouds put instance metadata
	"192.0.0.0/24",     // protocol assignments
	"192.0.2.0/24",     // documentation
	"192.88.99.0/24",   // former 6to4 relays
	"198.18.0.0/15",    // benchmarking
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, and broadcast
	"168.63.129.16/32", // Azure's platform endpoint
	"::/128",           // unspecified
	"100::/64",         // discard
	"2001:2::/48",      // benchmarking
	"2001:10::/28",     // ORCHID
	"2001:20::/28",     // ORCHIDv2
	"2001:db8::/32",    // documentation
	"3fff::/20",        // documentation
	"5f00::/16",        // segment routing identifiers
	"fc00::/8",         // unique local without a defined assignment
	"fe80::/10",        // link-local
	"fec0::/10",        // former site-local
	"ff00::/8",         // multicast
	"fd00:ec2::/32",    // AWS instance services
	"fd20:ce::254/128", // Google Cloud instance metadata
	"64:ff9b:1::/48",   // NAT64 for local use: embeds addresses in several ways
	"::ffff:0:0:0/96",  // translated IPv4, RFC 2765
)

var private = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")

var loopback = prefixes("127.0.0.0/8", "::1/128")

// Allow returns a *NotAllowedError when a workspace may not have the address.
// An IPv6 address that carries an IPv4 address, for a translator or a tunnel on
// the way to unpack, is judged by that one.
func (p Policy) Allow(addr netip.Addr) error {
	if !addr.IsValid() {
		return &NotAllowedError{Reason: "url has no usable address"}
	}
	if addr.Zone() != "" {
		return refuse(addr, "an interface-scoped address")
	}
	addr = addr.Unmap()
	switch {
	case contains(loopback, addr):
		if !p.Development {
			return refuse(addr, "a loopback address")
		}
		return nil
	case contains(never, addr):
		return refuse(addr, "a special-purpose address")
	case contains(private, addr):
		if !p.PrivateNetworks && !p.Development {
			return refuse(addr, "a private address")
		}
		return nil
	}
	if inner, ok := embedded(addr); ok {
		if p.Allow(inner) != nil {
			return refuse(addr, "an address that wraps a refused IPv4 address")
		}
	}
	return nil
}

func refuse(addr netip.Addr, what string) error {
	return &NotAllowedError{Reason: fmt.Sprintf("url leads to %s, which is %s", addr, what)}
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
	compatible = netip.MustParsePrefix("::/96")
)

// embedded is the IPv4 address inside a NAT64, 6to4, Teredo or IPv4-compatible
// IPv6 address.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr), compatible.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(addr):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	}
	return netip.Addr{}, false
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range list {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
