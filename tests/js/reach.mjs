// What bindings/python/examples/reach.py does, in JavaScript and with the transports of a browser. See docs/reach.md.
//
//     node reach.mjs listen RELAY          prints the addresses to give to others, and echoes what comes
//     node reach.mjs say ADDRESS WORDS     sends the words, prints the echo and which way the connection took
import { createNode } from './node.mjs'

const { multiaddr } = await import('@multiformats/multiaddr')
const ECHO_MS = 30_000

const channel = (from, to) => `${from}::dm:${to}-main`

async function listen (relay) {
  const node = await createNode([relay], async ({ from, payload }) => {
    console.log(from, 'says', payload.toString())
    await node.send(from, channel(node.id, from), payload)
  })
  node.libp2p.addEventListener('self:peer:update', () => node.libp2p.getMultiaddrs().forEach(address => console.log(String(address))))
}

async function say (address, words) {
  let came
  const echo = new Promise((resolve, reject) => {
    came = resolve
    setTimeout(() => reject(new Error('no echo came')), ECHO_MS)
  })
  const node = await createNode([], message => came(message.payload.toString()))
  const connection = await node.libp2p.dial(multiaddr(address), { signal: AbortSignal.timeout(ECHO_MS) })
  const id = connection.remotePeer.toString()
  const way = await node.send(id, channel(node.id, id), Buffer.from(words.join(' ')))
  console.log(await echo, 'came back by', way)
  await node.libp2p.stop()
}

const [command, first, ...rest] = process.argv.slice(2)
if (command === 'listen' && first != null) {
  await listen(first)
} else if (command === 'say' && rest.length > 0) {
  await say(first, rest)
  process.exit(0)
} else {
  console.error('node reach.mjs listen RELAY | say ADDRESS WORDS')
  process.exit(2)
}
