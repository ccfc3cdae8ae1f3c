// ticks.mjs USER: how far others have got, and read, what the user sent.
import mqtt from 'mqtt'

const [user] = process.argv.slice(2)
const client = mqtt.connect(`mqtt://127.0.0.1:${process.env.MQTT_PORT ?? 1883}`, {
  username: user, clientId: `${user}-ticks`
})
client.on('connect', () => client.subscribe('me/json/+/receipt'))
client.on('message', (topic, payload) => {
  const { user: who, delivered, read } = JSON.parse(payload)
  if (who) console.log(topic.split('/')[2], who, 'delivered', delivered, 'read', read)
})
