// Package fuzz holds the fuzz targets of drainctl's engine. They stand apart from the packages that they try, so that what other
// tests of those need is not built for them.
package fuzz
