package main

// #include "shim.h"
import "C"

import (
	"fmt"

	"peerbus/node"
	"peerbus/pool"
)

//export go_PoolsSet
func go_PoolsSet(number C.int, setting *C.char, settingLength C.size_t, value *C.char, valueLength C.size_t) *C.char {
	return onPools("PoolsSet", number, func(p *poolSet, a *arguments) (any, error) {
		name, text := a.text("setting", setting, settingLength), a.text("valueJSON", value, valueLength)
		if a.err != nil {
			return nil, a.err
		}
		change := poolSettings[name]
		if change == nil {
			return nil, unknownName("setting", name, poolSettings)
		}
		return "set", change(p, text)
	})
}

// poolSetting changes one thing; the text holds its value.
type poolSetting func(p *poolSet, text string) error

// setting decodes the value of a setting; null is refused unless T is a pointer.
func setting[T any](f func(p *poolSet, value T) error) poolSetting {
	return func(p *poolSet, text string) error {
		var value *T
		if err := decodeStrict(text, &value); err != nil {
			return fmt.Errorf("%w: the value: %v", node.ErrArgument, err)
		}
		if value == nil {
			return fmt.Errorf("%w: null is no value of this setting", node.ErrArgument)
		}
		return f(p, *value)
	}
}

// presetSetting is a setting of the preset that null, or "", clears.
func presetSetting(f func(c *pool.NodeConn, id string) error) poolSetting {
	return func(p *poolSet, text string) error {
		c, err := p.onPreset()
		if err != nil {
			return err
		}
		var id string // null leaves it ""
		if err := decodeStrict(text, &id); err != nil {
			return fmt.Errorf("%w: the value is neither a peer id nor null: %v", node.ErrArgument, err)
		}
		return f(c, id)
	}
}

// peerAddresses is the value of addresses and info_addresses.
type peerAddresses struct {
	Peer  string   `json:"peer"`
	Addrs []string `json:"addrs"`
}

var poolSettings = map[string]poolSetting{
	"token": setting(func(p *poolSet, token string) error { return p.set.SetToken(token) }),
	"inspector_node_id": setting(func(p *poolSet, id string) error {
		p.set.SetInspectorNodeID(id)
		return nil
	}),
	"keep_refused": setting(func(p *poolSet, keep bool) error {
		p.set.SetKeepRefused(keep)
		return nil
	}),
	"role": setting(func(p *poolSet, v struct {
		Peer string `json:"peer"`
		Role *int64 `json:"role"`
	}) error {
		if v.Role == nil {
			return fmt.Errorf("%w: the role is missing", node.ErrArgument)
		}
		return p.set.SetRole(v.Peer, *v.Role)
	}),
	"addresses":      setting(func(p *poolSet, v peerAddresses) error { return p.set.SetAddresses(v.Peer, v.Addrs) }),
	"info_addresses": setting(func(p *poolSet, v peerAddresses) error { return p.set.SetAddressesInPeerInfo(v.Peer, v.Addrs) }),
	"allowed": setting(func(p *poolSet, v struct {
		Name  string   `json:"name"`
		Peers []string `json:"peers"`
	}) error {
		if p.preset != nil {
			return fmt.Errorf("%w: the preset fills its allow sets itself", node.ErrUnsupported)
		}
		return p.set.SetAllowed(v.Name, v.Peers)
	}),
	"guests": setting(func(p *poolSet, v struct {
		Network string   `json:"network"`
		Peers   []string `json:"peers"`
	}) error {
		if p.preset != nil {
			return fmt.Errorf("%w: the preset hears the agents and masters of its world", node.ErrUnsupported)
		}
		return p.set.SetGuests(v.Network, v.Peers)
	}),
	"world":     presetSetting(func(c *pool.NodeConn, id string) error { return c.SetWorld(id) }),
	"inspector": presetSetting(func(c *pool.NodeConn, id string) error { return c.SetInspector(id) }),
	"rendezvous_tag": presetSetting(func(c *pool.NodeConn, id string) error {
		if id != "" {
			return fmt.Errorf("%w: the tag can only be reset, with null", node.ErrArgument)
		}
		c.ResetRendezvousTag()
		return nil
	}),
}
