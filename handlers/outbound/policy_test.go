package outbound_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/molecule-ai/pendinguploads/handlers/outbound"
)

func TestPolicyAllow(t *testing.T) {
	t.Parallel()
	const (
		public  = iota // allowed in every mode
		lan            // allowed in SaaS and development mode
		local          // allowed in development mode
		nowhere        // allowed in no mode
	)
	tests := []struct {
		addr string
		want int
	}{
		{"8.8.8.8", public},
		{"172.15.255.255", public},
		{"172.32.0.1", public},
		{"100.63.255.255", public},
		{"100.128.0.1", public},
		{"2606:4700::1111", public},
		{"::ffff:8.8.8.8", public},
		{"64:ff9b::808:808", public},
		{"2002:808:808::1", public},

		{"10.0.0.1", lan},
		{"172.16.0.1", lan},
		{"172.31.255.255", lan},
		{"192.168.1.1", lan},
		{"fd12:3456::1", lan},
		{"::ffff:10.0.0.1", lan},
		{"64:ff9b::a00:1", lan},
		{"2002:a00:1::1", lan},

		{"127.0.0.1", local},
		{"127.255.255.254", local},
		{"::1", local},
		{"::ffff:127.0.0.1", local},
		{"64:ff9b::7f00:1", local},
		{"2002:7f00:1::", local},
		{"::127.0.0.1", local},

		{"0.0.0.0", nowhere},
		{"0.1.2.3", nowhere},
		{"::", nowhere},
		{"169.254.169.254", nowhere},
		{"::ffff:169.254.169.254", nowhere},
		{"64:ff9b::a9fe:a9fe", nowhere},
		{"2002:a9fe:a9fe::", nowhere},
		{"2001:0:1:2:3:4:5601:5601", nowhere}, // Teredo client 169.254.169.254
		{"fe80::1", nowhere},
		{"fe80::1%eth0", nowhere},
		{"febf::1", nowhere},
		{"224.0.0.1", nowhere},
		{"239.255.255.255", nowhere},
		{"ff02::1", nowhere},
		{"192.0.2.1", nowhere},
		{"198.51.100.1", nowhere},
		{"203.0.113.1", nowhere},
		{"2001:db8::1", nowhere},
		{"3fff::1", nowhere},
		{"100.64.0.1", nowhere},
		{"100.127.255.255", nowhere},
		{"fc00::1", nowhere},
		{"fd00:ec2::254", nowhere},
		{"255.255.255.255", nowhere},
		{"240.0.0.1", nowhere},
		{"168.63.129.16", nowhere},
		{"64:ff9b:1::7f00:1", nowhere},
		{"fec0::1", nowhere},
	}
	modes := []struct {
		name   string
		policy outbound.Policy
		upTo   int
	}{
		{"strict", outbound.Policy{}, public},
		{"saas", outbound.Policy{PrivateNetworks: true}, lan},
		{"development", outbound.Policy{Development: true}, local},
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			t.Parallel()
			for _, test := range tests {
				err := mode.policy.Allow(netip.MustParseAddr(test.addr))
				if allowed := test.want <= mode.upTo; allowed != (err == nil) {
					t.Errorf("%s: error %v, want allowed %t", test.addr, err, allowed)
				}
				if err != nil && !errors.Is(err, outbound.ErrNotAllowed) {
					t.Errorf("%s: error %v is not ErrNotAllowed", test.addr, err)
				}
			}
		})
	}
}

func TestPolicyRefusesTheInvalidAddress(t *testing.T) {
	t.Parallel()
	if err := (outbound.Policy{Development: true}).Allow(netip.Addr{}); !errors.Is(err, outbound.ErrNotAllowed) {
		t.Errorf("error %v, want ErrNotAllowed", err)
	}
}
