// Program: a js-libp2p peer, as a browser would be one, without a browser. It reads one JSON list [function, argument, ...] per
// line and answers {"ok": ...} or {"error": ...}; the first line it writes is {"ok": {"id": ...}}. An argument is the address of
// a relay to be reached through.
import './polyfill.mjs'

const { createInterface } = await import('node:readline')
const { createLibp2p } = await import('libp2p')
const { noise } = await import('@chainsafe/libp2p-noise')
const { yamux } = await import('@chainsafe/libp2p-yamux')
const { circuitRelayTransport } = await import('@libp2p/circuit-relay-v2')
const { identify } = await import('@libp2p/identify')
const { ping } = await import('@libp2p/ping')
const { tcp } = await import('@libp2p/tcp')
const { webRTC, webRTCDirect } = await import('@libp2p/webrtc')
const { multiaddr } = await import('@multiformats/multiaddr')

const CHAT = '/unaiverse/chat/1.0.0'

const node = await createLibp2p({
  addresses: { listen: [...process.argv.slice(2).map(relay => `${relay}/p2p-circuit`), '/webrtc'] },
  transports: [tcp(), webRTC(), webRTCDirect(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false },
  services: { identify: identify(), ping: ping() }
})

// Frames of the chat protocol: u32 total | u8 channel length | channel | payload.
const received = []

async function readFrames (stream, connection) {
  let buffer = Buffer.alloc(0)
  for await (const piece of stream) {
    buffer = Buffer.concat([buffer, piece.subarray()])
    while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE()) {
      const frame = buffer.subarray(4, 4 + buffer.readUInt32BE())
      const channel = frame.subarray(1, 1 + frame[0])
      const payload = frame.subarray(1 + frame[0])
      received.push({ from: connection.remotePeer.toString(), channel: channel.toString(), payload: payload.toString('base64') })
      buffer = buffer.subarray(4 + buffer.readUInt32BE())
    }
  }
}

await node.handle(CHAT, readFrames, { runOnLimitedConnection: true })

function connectionsTo (id) {
  return node.getConnections().filter(c => c.remotePeer.toString() === id)
}

// The connection to use: a direct one before a relayed one.
function best (id) {
  const all = connectionsTo(id).filter(c => c.status === 'open')
  return all.find(c => c.limits == null) ?? all[0]
}

async function whole (stream, bytes) {
  for (let at = 0; at < bytes.length; at += 65536) {
    if (!stream.send(bytes.subarray(at, at + 65536))) {
      await stream.onDrain()
    }
  }
}

const chats = new Map()

const functions = {
  async dial (address) {
    const connection = await node.dial(multiaddr(address), { signal: AbortSignal.timeout(30_000) })
    return connection.remoteAddr.toString()
  },
  addresses: () => node.getMultiaddrs().map(String),
  connections: id => connectionsTo(id).map(c => ({ address: c.remoteAddr.toString(), limited: c.limits != null, status: c.status })),
  async ping (id) {
    return await node.services.ping.ping(best(id).remotePeer, { signal: AbortSignal.timeout(20_000) })
  },
  async send (id, channel, payload) {
    const connection = best(id)
    let stream = chats.get(connection)
    if (stream == null || stream.status !== 'open') {
      stream = await connection.newStream(CHAT, { runOnLimitedConnection: true })
      chats.set(connection, stream)
    readFrames(stream, connection).catch(() => {}) // a chat stream is read and written by both sides
    }
    const name = Buffer.from(channel)
    const data = Buffer.from(payload, 'base64')
    const head = Buffer.alloc(5)
    head.writeUInt32BE(1 + name.length + data.length)
    head[4] = name.length
    await whole(stream, Buffer.concat([head, name, data]))
    return connection.remoteAddr.toString()
  },
  received: () => received.splice(0),
  async close (id) {
    await Promise.all(connectionsTo(id).map(async c => await c.close()))
  }
}

function answer (value) {
  process.stdout.write(JSON.stringify(value) + '\n')
}

answer({ ok: { id: node.peerId.toString() } })
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line)
  try {
    answer({ ok: await functions[name](...args) ?? null })
  } catch (problem) {
    answer({ error: `${name}: ${problem?.stack ?? problem}` })
  }
}
await node.stop()
process.exit(0)
