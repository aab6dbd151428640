package main

// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"

	"peerbus/node"
	"peerbus/pool"
)

//export go_GenerateTokenKey
func go_GenerateTokenKey(algorithm *C.char, algorithmLength C.size_t) *C.char {
	return control("GenerateTokenKey", nil, nil, func() (any, error) {
		name, err := textArgument("algorithm", algorithm, algorithmLength)
		if err != nil {
			return nil, err
		}
		private, public, err := pool.GenerateKey(name)
		return map[string]string{"private_key": private, "public_key": public}, err
	})
}

//export go_IssueToken
func go_IssueToken(key *C.char, keyLength C.size_t, request *C.char, requestLength C.size_t) *C.char {
	return control("IssueToken", nil, nil, func() (any, error) {
		var a arguments
		private, text := a.text("privateKey", key, keyLength), a.text("requestJSON", request, requestLength)
		if a.err != nil {
			return nil, a.err
		}
		issuer, err := pool.NewIssuer(private)
		if err != nil {
			return nil, err
		}
		var r pool.Request
		if err := decodeStrict(text, &r); err != nil {
			return nil, fmt.Errorf("%w: requestJSON: %v", node.ErrArgument, err)
		}
		token, err := issuer.Issue(r)
		return map[string]string{"token": token}, err
	})
}

//export go_VerifyToken
func go_VerifyToken(key *C.char, keyLength C.size_t, token *C.char, tokenLength C.size_t, peer *C.char, peerLength C.size_t, match *C.char, matchLength C.size_t) *C.char {
	return control("VerifyToken", nil, nil, func() (any, error) {
		var a arguments
		public, text := a.text("publicKey", key, keyLength), a.text("token", token, tokenLength)
		id, wanted := a.text("peerID", peer, peerLength), a.text("matchJSON", match, matchLength)
		if a.err != nil {
			return nil, a.err
		}
		verifier, err := pool.NewVerifier(public)
		if err != nil {
			return nil, err
		}
		var m pool.Match
		if err := decodeStrict(wanted, &m); err != nil {
			return nil, fmt.Errorf("%w: matchJSON: %v", node.ErrArgument, err)
		}
		return tokenVerdict(verifier.VerifyMatching(text, id, m))
	})
}

// verifyInSet is the query verify_token.
func verifyInSet(p *poolSet, a struct {
	pool.Match
	Token string `json:"token"`
	Peer  string `json:"peer"`
}) (any, error) {
	return tokenVerdict(p.set.VerifyTokenMatching(a.Token, a.Peer, a.Match))
}

// tokenVerdict is the answer about a token: that it fails is no failure of the call.
func tokenVerdict(claims pool.Claims, err error) (any, error) {
	switch {
	case err == nil:
		return map[string]any{"valid": true, "claims": claims}, nil
	case errors.Is(err, pool.ErrNoPolicy):
		return map[string]any{"valid": false, "reason": "no_key", "problem": err.Error()}, nil
	}
	for _, failure := range []error{pool.ErrNoToken, pool.ErrBadToken, pool.ErrExpiredToken, pool.ErrTokenPeer, pool.ErrTokenRate} {
		if errors.Is(err, failure) {
			return map[string]any{"valid": false, "reason": pool.ReasonOfToken(err), "problem": err.Error()}, nil
		}
	}
	return nil, err
}
