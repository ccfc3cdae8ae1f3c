// send.mjs USER CHAT ID TEXT: sends a message until it is stored. The id makes that safe to repeat.
import mqtt from 'mqtt'

const [user, chat, id, text] = process.argv.slice(2)
const client = mqtt.connect(`mqtt://127.0.0.1:${process.env.MQTT_PORT ?? 1883}`, {
  username: user, clientId: `${user}-send`, protocolVersion: 5
})
// The acknowledgement says which number the message has in the chat, or why there is none.
client.on('packetreceive', ({ cmd, properties }) => {
  const { seq, code } = properties?.userProperties ?? {}
  if (cmd === 'puback') console.log(code ? `refused: ${code}` : `✓ ${id} is number ${seq}`)
})
// MQTT.js publishes again by itself what was not acknowledged when the connection was lost.
try {
  await client.publishAsync(`chat/${chat}/send/${id}`, text, { qos: 1 })
} catch {
  process.exitCode = 1
}
await client.endAsync()
