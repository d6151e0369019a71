// A handshake with the roots of a file. Arguments: ROOTS HOST PORT.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

func main() {
	roots, _ := os.ReadFile(os.Args[1])
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	_, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[3], &tls.Config{RootCAs: pool, ServerName: os.Args[2]})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("200")
}
