const express = require('express')
const client = require('prom-client')

const busy = new client.Gauge({ name: 'http_requests_in_flight', help: 'Requests not answered yet' })
const app = express()
app.use((req, res, next) => {
  busy.inc()
  res.once('close', () => busy.dec()) // also where the client has gone
  next()
})
app.get('/metrics', async (req, res) => {
  res.type(client.register.contentType).send(await client.register.metrics())
})

app.get('/work', (req, res) => setTimeout(() => res.send('ok'), 1000 * (req.query.seconds || 0)))
app.listen(process.env.PORT, '127.0.0.1')
