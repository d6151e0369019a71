// net/http with its defaults. Arguments: BASE FILE CASE...
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	base, file := os.Args[1], os.Args[2]
	for _, name := range os.Args[3:] {
		switch name {
		case "get":
			fmt.Println(name, text(http.Get(base+"/small")))
		case "post":
			fmt.Println(name, text(http.Post(base+"/small", "text/plain", strings.NewReader("a small body"))))
		case "download":
			response := checked(http.Get(base + "/large"))
			hash := sha256.New()
			if _, err := io.Copy(hash, response.Body); err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s %x\n", name, hash.Sum(nil))
		case "upload":
			large, err := os.Open(file)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(name, text(http.Post(base+"/large", "application/octet-stream", large)))
		case "events":
			lines := bufio.NewScanner(checked(http.Get(base + "/events")).Body)
			for lines.Scan() {
				if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
					fmt.Println(name, data)
				}
			}
		}
	}
}

func checked(response *http.Response, err error) *http.Response {
	if err != nil {
		log.Fatal(err)
	}
	return response
}

func text(response *http.Response, err error) string {
	body, err := io.ReadAll(checked(response, err).Body)
	if err != nil {
		log.Fatal(err)
	}
	return string(body)
}
