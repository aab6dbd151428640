// What js-libp2p expects of Node 22 and older ones do not have. To be imported before it.
import { webcrypto } from 'node:crypto'

if (Promise.withResolvers == null) {
  Promise.withResolvers = function () {
    let resolve, reject
    const promise = new this((a, b) => { resolve = a; reject = b })
    return { promise, resolve, reject }
  }
}
if (globalThis.crypto == null) {
  globalThis.crypto = webcrypto
}
if (globalThis.CustomEvent == null) {
  globalThis.CustomEvent = class CustomEvent extends Event {
    constructor (type, init = {}) {
      super(type, init)
      this.detail = init.detail ?? null
    }
  }
}

// libdatachannel, which stands in for a browser's WebRTC, refuses the peer's certificate when a path is found while it still sets
// the peer's description (its pull request 1612). On one machine that takes no longer than another process needs to be scheduled.
// So the peer is told of no candidate before: nothing finds a path then.
const { RTCPeerConnection } = await import('node-datachannel/polyfill')
const early = new WeakMap() // by connection: the events that wait; none once the description is set
const { dispatchEvent, setRemoteDescription } = RTCPeerConnection.prototype

RTCPeerConnection.prototype.dispatchEvent = function (event) {
  if (!early.has(this)) {
    early.set(this, [])
  }
  const waiting = early.get(this)
  if (event.type !== 'icecandidate' || waiting == null) {
    return dispatchEvent.call(this, event)
  }
  waiting.push(event)
  return true
}

RTCPeerConnection.prototype.setRemoteDescription = async function (description) {
  await setRemoteDescription.call(this, description)
  const waiting = early.get(this)
  early.set(this, null)
  waiting?.forEach(event => this.dispatchEvent(event))
}
