// A js-libp2p node with the transports of a browser, and TCP to reach relays, that speaks the chat protocol of peerbus.
import './polyfill.mjs'

const { createLibp2p } = await import('libp2p')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { circuitRelayTransport } = await import('@libp2p/circuit-relay-v2')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { tcp } = await import('@libp2p/tcp')
const { webRTC, webRTCDirect } = await import('@libp2p/webrtc')

const CHAT = '/unaiverse/chat/1.0.0'
const PIECE = 65536

// How long a step of a connection may take. The 5 to 10 s of js-libp2p are for somebody who waits in front of a browser; between
// processes of tests the deadlines of the callers count, since a machine with much to do is slow without anything being wrong.
const STEP_MS = 30_000

// Reachable through these relays. onMessage takes {from, channel, payload}.
export async function createNode (relays, onMessage) {
  const libp2p = await createLibp2p({
    addresses: { listen: [...relays.map(relay => `${relay}/p2p-circuit`), '/webrtc'] },
    transports: [tcp(), webRTC(), webRTCDirect(), circuitRelayTransport({ reservationCompletionTimeout: STEP_MS })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false }, // private addresses too
    connectionManager: {
      addressDialTimeout: STEP_MS,
      inboundUpgradeTimeout: STEP_MS,
      inboundStreamProtocolNegotiationTimeout: STEP_MS,
      outboundStreamProtocolNegotiationTimeout: STEP_MS
    },
    services: { identify: identify({ timeout: STEP_MS }), ping: ping() }
  })
  const read = (stream, connection) => readFrames(stream, connection, onMessage)
  await libp2p.handle(CHAT, read, { runOnLimitedConnection: true })
  return new ChatNode(libp2p, read)
}

class ChatNode {
  #read
  #streams = new Map() // by connection

  constructor (libp2p, read) {
    this.libp2p = libp2p
    this.#read = read
  }

  get id () { return this.libp2p.peerId.toString() }

  connectionsTo (id) {
    return this.libp2p.getConnections().filter(c => c.remotePeer.toString() === id)
  }

  // The connection to use: a direct one before a relayed one.
  best (id) {
    const all = this.connectionsTo(id).filter(c => c.status === 'open')
    return all.find(c => c.limits == null) ?? all[0]
  }

  // Sends a message, and answers the address of the connection that took it. A chat stream is read and written by both sides.
  async send (id, channel, payload) {
    const connection = this.best(id)
    let stream = this.#streams.get(connection)
    if (stream == null || stream.status !== 'open') {
      stream = await connection.newStream(CHAT, { runOnLimitedConnection: true })
      this.#streams.set(connection, stream)
      this.#read(stream, connection).catch(() => {})
    }
    await whole(stream, frameOf(Buffer.from(channel), payload))
    return connection.remoteAddr.toString()
  }
}

// Frames of the chat protocol: u32 total | u8 channel length | channel | payload.
function frameOf (channel, payload) {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(1 + channel.length + payload.length)
  head[4] = channel.length
  return Buffer.concat([head, channel, payload])
}

async function readFrames (stream, connection, onMessage) {
  let buffer = Buffer.alloc(0)
  for await (const piece of stream) {
    buffer = Buffer.concat([buffer, piece.subarray()])
    while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE()) {
      const frame = buffer.subarray(4, 4 + buffer.readUInt32BE())
      const channel = frame.subarray(1, 1 + frame[0]).toString()
      onMessage({ from: connection.remotePeer.toString(), channel, payload: frame.subarray(1 + frame[0]) })
      buffer = buffer.subarray(4 + buffer.readUInt32BE())
    }
  }
}

async function whole (stream, bytes) {
  for (let at = 0; at < bytes.length; at += PIECE) {
    if (!stream.send(bytes.subarray(at, at + PIECE))) {
      await stream.onDrain()
    }
  }
}
