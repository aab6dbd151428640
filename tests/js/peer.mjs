// Program: a js-libp2p peer, as a browser would be one, without a browser. It reads one JSON list [function, argument, ...] per
// line and answers {"ok": ...} or {"error": ...}; the first line it writes is {"ok": {"id": ...}}. An argument is the address of
// a relay to be reached through.
import { createNode } from './node.mjs'

const { createInterface } = await import('node:readline')
const { multiaddr } = await import('@multiformats/multiaddr')

const received = []
const node = await createNode(process.argv.slice(2), message => {
  received.push({ ...message, payload: message.payload.toString('base64') })
})

const functions = {
  async dial (address) {
    const connection = await node.libp2p.dial(multiaddr(address), { signal: AbortSignal.timeout(30_000) })
    return connection.remoteAddr.toString()
  },
  addresses: () => node.libp2p.getMultiaddrs().map(String),
  connections: id => node.connectionsTo(id).map(c => ({ address: c.remoteAddr.toString(), limited: c.limits != null, status: c.status })),
  async ping (id) {
    return await node.libp2p.services.ping.ping(node.best(id).remotePeer, { signal: AbortSignal.timeout(20_000) })
  },
  send: (id, channel, payload) => node.send(id, channel, Buffer.from(payload, 'base64')),
  received: () => received.splice(0),
  async close (id) {
    await Promise.all(node.connectionsTo(id).map(async c => await c.close()))
  }
}

function answer (value) {
  process.stdout.write(JSON.stringify(value) + '\n')
}

answer({ ok: { id: node.id } })
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line)
  try {
    answer({ ok: await functions[name](...args) ?? null })
  } catch (problem) {
    answer({ error: `${name}: ${problem?.stack ?? problem}` })
  }
}
await node.libp2p.stop()
process.exit(0)
