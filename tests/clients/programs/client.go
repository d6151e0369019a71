// POST by net/http, which takes its proxy from the environment. Arguments: URL [ID].
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
)

func main() {
	request, err := http.NewRequest("POST", os.Args[1], strings.NewReader(`{"n": 1}`))
	if err != nil {
		log.Fatal(err)
	}
	if len(os.Args) > 2 {
		request.Header.Set("X-Integration-Id", os.Args[2])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(body), response.StatusCode)
}
