// A small server on Express that streams tokens over SSE, with the gauge of prom-client that the docs give, and ends as Express's docs have it.
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

app.get('/v1/completions', (req, res) => {
  const end = Date.now() + 1000 * req.query.seconds
  res.type('text/event-stream')
  const tick = setInterval(() => {
    if (Date.now() < end) return res.write('data: token\n\n')
    clearInterval(tick)
    res.end('data: [DONE]\n\n')
  }, 100)
  res.once('close', () => clearInterval(tick))
})
const server = app.listen(8000)
process.on('SIGTERM', () => server.close())
