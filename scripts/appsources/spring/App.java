package demo;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.web.bind.annotation.*;

@SpringBootApplication
@RestController
public class App {
  public static void main(String[] args) { SpringApplication.run(App.class, args); }

  @GetMapping("/work")
  String work(@RequestParam(defaultValue = "0") double seconds) throws InterruptedException {
    Thread.sleep((long) (1000 * seconds));
    return "ok";
  }
}
