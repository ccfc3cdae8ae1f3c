// receive.mjs USER: hears what is sent to a user, also what came while this device was away, and reads it.
import mqtt from 'mqtt'

const [user] = process.argv.slice(2)
// A session that stays: the broker remembers how far this device is.
const client = mqtt.connect(`mqtt://127.0.0.1:${process.env.MQTT_PORT ?? 1883}`, {
  username: user, clientId: `${user}-phone`, clean: false
})
client.on('connect', () => client.subscribe('me/json/+/message', { qos: 1 }))
client.on('message', (topic, payload) => {
  const chat = topic.split('/')[2]
  const { seq, from, text, data } = JSON.parse(payload)
  // What is not UTF-8 is `data`, in base64.
  console.log(chat, seq, from, text ?? data)
  // Behind this function MQTT.js acknowledges the message: the second tick. This makes it blue.
  client.publish(`chat/${chat}/read`, String(seq), { qos: 1 })
})
