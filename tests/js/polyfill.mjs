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
