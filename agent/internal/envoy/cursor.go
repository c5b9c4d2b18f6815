package envoy

// cursor goes through one JSON value that is known to be valid, without allocating anything.
type cursor struct {
	text []byte
	at   int
}

// object calls each with the name of every member of the object that comes next; each must consume the value. Anything else is skipped.
func (c *cursor) object(each func(name []byte)) {
	if c.peek() != '{' {
		c.skip()
		return
	}
	for c.at++; c.peek() != '}'; {
		name := c.word()
		c.peek() // the colon
		c.at++
		each(name)
		if c.peek() == ',' {
			c.at++
		}
	}
	c.at++
}

// array calls each for every item of the array that comes next; each must consume it. Anything else is skipped.
func (c *cursor) array(each func()) {
	if c.peek() != '[' {
		c.skip()
		return
	}
	for c.at++; c.peek() != ']'; {
		if each(); c.peek() == ',' {
			c.at++
		}
	}
	c.at++
}

// word is the text, number or literal that comes next, as it is written, without quotes.
func (c *cursor) word() []byte {
	if c.peek() != '"' {
		begin := c.at
		c.skip()
		return c.text[begin:c.at]
	}
	begin := c.at + 1
	c.skip()
	return c.text[begin : c.at-1]
}

// peek passes over space and returns what comes next, 0 at the end.
func (c *cursor) peek() byte {
	for ; c.at < len(c.text); c.at++ {
		switch b := c.text[c.at]; b {
		case ' ', '\t', '\n', '\r':
		default:
			return b
		}
	}
	return 0
}

// skip passes over the next value.
func (c *cursor) skip() {
	switch c.peek() {
	case '"':
		for c.at++; c.text[c.at] != '"'; c.at++ {
			if c.text[c.at] == '\\' {
				c.at++
			}
		}
		c.at++
	case '{':
		c.object(func([]byte) { c.skip() })
	case '[':
		c.array(c.skip)
	default:
		for c.at < len(c.text) && !ends(c.text[c.at]) {
			c.at++
		}
	}
}

// ends reports whether a number or literal is over before this byte.
func ends(b byte) bool {
	switch b {
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}
