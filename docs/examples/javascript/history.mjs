// history.mjs USER CHAT: the newest messages of a chat, and what of them is gone.
import mqtt from 'mqtt'

const [user, chat] = process.argv.slice(2)
const client = mqtt.connect(`mqtt://127.0.0.1:${process.env.MQTT_PORT ?? 1883}`, {
  username: user, clientId: `${user}-history`
})
client.on('message', (topic, payload) => {
  const { entries = [], gone, ...rest } = JSON.parse(payload)
  for (const { seq, from, text, data } of entries) console.log(seq, from, text ?? data)
  console.log(gone ? 'gone:' : 'refused:', JSON.stringify(gone ?? rest))
  client.end()
})
await client.subscribeAsync([`me/json/${chat}/history`, `me/json/${chat}/error`], { qos: 1 })
client.publish(`chat/${chat}/history`, JSON.stringify({ limit: 20 }), { qos: 1 })
